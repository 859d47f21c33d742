"""Strategies by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nas.core import (
    Decision,
    Evaluate,
    Fidelity,
    Genotypes,
    Goals,
    InvalidInputError,
    Learner,
    SearchSpace,
    UnknownNameError,
)
from nas.strategies import STRATEGIES, SearchContext, Word, checked_options, make_strategy
from predictors.encoders import with_costs
from predictors.gbdt import GradientBoostedTrees

SPACE = SearchSpace(tuple(Decision(f"w{i}", (1, 2, 4)) for i in range(6)))


def costs(rows: Genotypes) -> dict[str, np.ndarray]:
    return {"size": rows.sum(axis=1).astype(np.float64)}


def small(rows: Genotypes) -> np.ndarray:
    return np.asarray(costs(rows)["size"] <= 8)


Contexts = Callable[..., SearchContext]


@pytest.fixture
def context(context_of: Contexts) -> Contexts:
    """A context with a cost, a constraint, and the features of searches, but for changes."""
    return partial(
        context_of,
        SPACE,
        Goals.parse(["accuracy", "size:min"]),
        seed=3,
        fidelity=Fidelity.INHERITED,
        admissible=small,
        costs=costs,
        learner=lambda _: Learner(with_costs(SPACE, costs), GradientBoostedTrees),
    )


@pytest.mark.parametrize("n_trials", [1, 10, 1000])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_is_made_for_any_budget(context: Contexts, name: str, n_trials: int) -> None:
    task = make_strategy(name, context(n_trials=n_trials), {}).ask(1)[0]
    assert isinstance(task, Evaluate)
    assert task.fidelity is Fidelity.INHERITED
    assert small(SPACE.row(task.candidate)[None]).all()


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in STRATEGIES for option in STRATEGIES[name]]
)
def test_every_setting_may_have_its_least_and_its_most(
    context: Contexts, name: str, option: str
) -> None:
    setting = STRATEGIES[name][option]
    if isinstance(setting, Word):
        assert make_strategy(name, context(), {option: "any"}).ask(1)
        with pytest.raises(InvalidInputError, match=option):
            make_strategy(name, context(), {option: 3})
        return
    for value in (setting.least, setting.most):
        strategy = make_strategy(name, context(), {option: setting.kind(value)})
        assert strategy.ask(1)
    with pytest.raises(InvalidInputError, match=option):
        make_strategy(name, context(), {option: setting.kind(setting.least - 1)})


def test_settings_are_checked(context: Contexts) -> None:
    assert checked_options("nsga2", {"population": 8, "mutation": 1}) == {
        "population": 8,
        "mutation": 1.0,
    }
    with pytest.raises(UnknownNameError, match="nsga3"):
        make_strategy("nsga4", context(), {})
    with pytest.raises(UnknownNameError, match="population"):
        make_strategy("nsga2", context(), {"populaton": 8})
    for value in (True, 8.5, "8"):
        with pytest.raises(InvalidInputError, match="whole number"):
            make_strategy("nsga2", context(), {"population": value})


def test_strategies_are_imported_without_the_libraries_few_of_them_need() -> None:
    program = (
        "import sys, nas.strategies\n"
        "print([m for m in ('pymoo', 'optuna', 'torch', 'xgboost') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
