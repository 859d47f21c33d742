from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nas.core import (
    Evaluate,
    Fidelity,
    Genotypes,
    TrainShared,
    Trial,
    TrialState,
)
from nas.strategies import (
    Given,
    RandomSearch,
    Seeded,
    handed_over,
)
from tests.strategies.toy import (
    asked_light,
    keys,
    light,
    make_space,
    seeded,
    simulate,
)


def test_the_likeliest_candidates_come_first_then_the_search_that_knows_them() -> None:
    space = make_space(5)
    log = simulate(seeded(space, 2), space, 12, workers=1)
    asked = [t.candidate for t in log if t.state is TrialState.RUNNING and t.candidate]
    rng = np.random.default_rng(2)
    shares = {d.name: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions}

    def likelihood(row: Genotypes) -> float:
        pairs = zip(space.names, row, strict=True)
        parts = [shares[n][option] if option >= 0 else shares[n].max() for n, option in pairs]
        return float(np.prod(parts))

    first = [likelihood(space.row(candidate)) for candidate in asked[:4]]
    assert first == sorted(first, reverse=True)
    assert first[0] == pytest.approx(max(likelihood(row) for row in space.rows()))
    assert len(set(asked)) == 12


def test_candidates_that_are_to_differ_are_drawn_after_the_likeliest() -> None:
    space = make_space(5)
    shares = {d.name: [0.6] + [0.4 / (len(d.options) - 1)] * (len(d.options) - 1)
              for d in space.decisions}  # fmt: skip
    asked = []
    for spread in (False, True):
        inner = RandomSearch(space, 0)
        strategy = Seeded(inner, space, 60, 0, Fidelity.TRAINED, spread=spread)
        strategy.follow(shares)
        tasks = strategy.ask(60)
        rows = np.stack([space.row(t.candidate) for t in tasks if isinstance(t, Evaluate)])
        assert (rows[0] <= 0).all()
        asked.append((rows[:20] > 0).sum(axis=1).mean())
    likeliest, drawn = asked
    assert likeliest < 1.7 < drawn


def test_distributions_of_several_tradeoffs_propose_in_turn() -> None:
    space = make_space(5)

    def mostly(option: int) -> dict[str, list[float]]:
        return {
            d.name: np.where(np.arange(len(d.options)) == option % len(d.options), 0.97, 0.01)
            for d in space.decisions
        }

    found = [mostly(0), mostly(1)]
    strategy = Seeded(RandomSearch(space, 0), space, 10, 0, Fidelity.TRAINED, spread=True)
    strategy.follow(*found)
    rows = [space.row(t.candidate) for t in strategy.ask(10) if isinstance(t, Evaluate)]
    assert len({tuple(row) for row in rows}) == 10
    for i in (0, 1):
        modes = np.array([[int(p.argmax()) for p in found[i].values()]], dtype=np.int16)
        np.testing.assert_array_equal(rows[i], space.canonical(modes)[0])
    task = TrainShared("differentiable", 1)
    about = {"probabilities": mostly(0), "tradeoffs": found}
    told = Seeded(RandomSearch(space, 0), space, 10, 0, Fidelity.TRAINED, spread=True)
    handed_over(told, Trial(0, task).completed({}, {"differentiable": about}))
    assert told.ask(10) == strategy.ask(10)


def test_named_candidates_come_first_each_once_even_where_inadmissible() -> None:
    space = make_space(5)
    rows = space.sample(5, np.random.default_rng(0))
    search = RandomSearch(space, 0, admissible=partial(light, space))
    strategy = Given(search, space, np.concatenate([rows, rows[:2]]), Fidelity.TRAINED)
    asked = keys(simulate(strategy, space, 20, workers=3))
    assert asked[:5] == [space.candidate(row).key for row in rows]
    assert len(set(asked)) == len(asked)


def test_inadmissible_rows_are_never_taken_from_a_distribution() -> None:
    space = make_space(5)
    assert all(asked_light(seeded(space, 0, partial(light, space)), space))
