"""Shared by the tests of strategies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import optuna
import pytest

from nas.core import Fidelity, Goals, Learner, SearchSpace
from nas.strategies import SearchContext
from predictors.encoders import encode, one_hot
from predictors.gbdt import GradientBoostedTrees
from predictors.registry import surrogate


class HastyGP(optuna.samplers.GPSampler):
    """Optuna's, with less care for the best of its acquisition function, which takes the time."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._n_preliminary_samples = 128
        self._n_local_search = 2
        self._n_qmc_samples_qei = self._n_qmc_samples_ehvi = 16


@pytest.fixture
def hasty_gp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Gaussian processes fast enough for hundreds of asks."""
    monkeypatch.setattr(optuna.samplers, "GPSampler", HastyGP)


def new_context(space: SearchSpace, goals: Goals, **changes: Any) -> SearchContext:
    """A context of full trainings, no closed-form costs, and boosted trees, but for `changes`."""
    seed = changes.get("seed", 0)
    settings: dict[str, Any] = {
        "seed": seed,
        "n_trials": 40,
        "fidelity": Fidelity.TRAINED,
        "admissible": None,
        "costs": lambda rows: {},
        "learner": lambda name: Learner(partial(encode, space), GradientBoostedTrees),
        "default_predictor": "gbdt",
        "one_hot": partial(one_hot, space),
        "surrogate": partial(surrogate, seed),
    }
    return SearchContext(space=space, goals=goals, **settings | changes)


@pytest.fixture(scope="session")
def context_of() -> Callable[..., SearchContext]:
    """`new_context`."""
    return new_context
