from __future__ import annotations

import numpy as np
import pytest

from nas.core import Evaluate, InvalidInputError, TrainShared, Trial
from nas.core.trial import DIFFERENTIABLE
from nas.forecast import cheapest
from nas.problem import Problem
from nas.spec import JobSpec
from nas.strategies import STRATEGIES

SPARSELY_JOINED = {
    "operations": ["none", "skip_connect", "nor_conv_1x1"],
    "n_nodes": 3,
    "unshared": True,
    "weight_bits": [32],
}


def problem(strategy: str = "random", *constraints: str) -> Problem:
    space = {"name": "cells", "options": SPARSELY_JOINED}
    return Problem.load(
        JobSpec.parse({"space": space, "strategy": strategy, "constraints": constraints})
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_no_strategy_asks_for_networks_that_are_constant(name: str) -> None:
    loaded = problem(name)
    family = loaded.family
    rows = family.space.sample(500, np.random.default_rng(0))
    assert family.connected(rows).mean() < 0.8
    tasks = loaded.strategy().ask(20)
    asked = [family.space.row(t.candidate) for t in tasks if isinstance(t, Evaluate)]
    assert len(asked) == 20
    assert family.connected(np.stack(asked)).all()


def test_the_cheapest_networks_are_connected() -> None:
    loaded = problem("random", "params<=20000")
    assert loaded.family.connected(np.stack(cheapest(loaded))).all()
    rows = loaded.family.space.sample(2000, np.random.default_rng(0))
    params = loaded.family.costs(rows)["params"]
    expected = loaded.family.connected(rows) & (params <= 20000)
    assert (loaded.admissible(rows) == expected).all()
    assert 0 < expected.sum() < loaded.family.connected(rows).sum()


def test_a_design_that_is_there_already_is_tried_first() -> None:
    family = problem().family
    rows = family.space.sample(50, np.random.default_rng(9))
    row = rows[family.connected(rows)][0]
    values = dict(family.space.candidate(row).values)
    body = {"space": {"name": "cells", "options": SPARSELY_JOINED}, "strategy": "random"}
    spec = JobSpec.parse({**body, "candidates": [values]})
    assert JobSpec.parse(spec.to_json()) == spec
    (first,) = Problem.load(spec).strategy().ask(1)
    assert isinstance(first, Evaluate)
    assert dict(first.candidate.values) == values
    for wrong, said in (
        ({**values, "nonsense": 1}, "nonsense"),
        ({**values, next(iter(values)): "teleport"}, "teleport"),
        ({}, "candidate.cell1.0>1: None is not usable: one of"),
        ({k: "none" if k.startswith("cell") else v for k, v in values.items()}, "reads its input"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            Problem.load(JobSpec.parse({**body, "candidates": [wrong]}))


def test_designs_of_the_user_go_before_those_of_a_learned_distribution() -> None:
    family = problem().family
    rows = family.space.sample(200, np.random.default_rng(9))
    mine, learned = (
        dict(family.space.candidate(r).values) for r in rows[family.connected(rows)][:2]
    )
    space = {"name": "cells", "options": SPARSELY_JOINED}
    body = {"space": space, "strategy": "random", "differentiable": {"epochs": 1}}
    strategy = Problem.load(JobSpec.parse({**body, "candidates": [mine]})).strategy()
    (training,) = strategy.ask(1)
    assert isinstance(training, TrainShared)
    sure = {
        d.name: [float(option == learned.get(d.name, d.options[0])) for option in d.options]
        for d in family.space.decisions
    }
    running = Trial(0, training)
    found = {DIFFERENTIABLE: {"probabilities": sure}}
    strategy.tell([running, running.completed({"epochs": 1.0}, found)])
    asked = []
    for number in range(1, 3):
        (task,) = strategy.ask(1)
        assert isinstance(task, Evaluate)
        asked.append(dict(task.candidate.values))
        strategy.tell([Trial(number, task)])
    assert asked == [mine, learned]
