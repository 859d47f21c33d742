"""Predictors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nas.core import DifferentiablePredictor, Predictor, UnknownNameError
from nas.core.importing import imported, is_path
from predictors.automatic import AutomaticPredictor
from predictors.forest import RandomForest
from predictors.gaussian_process import GaussianProcess
from predictors.gbdt import GradientBoostedTrees, RankingTrees
from predictors.lightgbm import LightGBMTrees
from predictors.warping import WarpedTargets

Factory = Callable[[int], Predictor]

DEFAULT = "gaussian-process-warped"
"""The predictor of searches for one metric that name none: ranks best from few rows."""

STACKED = "gaussian-process-stacked"
"""Processes of a candidate's structure and of its options; `predictors.learners` makes it."""

DEFAULT_FOR_SEVERAL = STACKED
"""The same for trade-offs: what a candidate adds to a front depends on values, not on ranks."""

CANDIDATES = ("gaussian-process-warped", "gaussian-process", "gbdt-ranking", "gbdt", "forest")
"""What `automatic` chooses from, the default first."""


def predictor(name: str, seed: int) -> Predictor:
    """A fresh predictor with default settings.

    Args:
        name: one of `PREDICTORS`, or `package.module:Name` of your own, which is made of the seed.
        seed: 0 to 2**31 - 1.

    Raises:
        UnknownNameError: no predictor of that name.
        InvalidInputError: a path that leads to none.
    """
    if is_path(name):
        own: Any = imported("predictor", name, Predictor)
        made: Predictor = own(seed)
        return made
    if name not in PREDICTORS:
        raise UnknownNameError("predictor", name, PREDICTORS)
    return PREDICTORS[name](seed)


def default(n_objectives: int) -> str:
    """The predictor of a search that names none (`nas benchmark` compares them)."""
    return DEFAULT if n_objectives == 1 else DEFAULT_FOR_SEVERAL


def surrogate(seed: int) -> DifferentiablePredictor:
    """A fresh predictor whose slope is known: a small ensemble of nets."""
    from predictors.neural import NeuralEnsemble  # torch takes seconds to import

    return NeuralEnsemble(n_steps=150, width=64, seed=seed)


def _gbdt(seed: int) -> Predictor:
    return GradientBoostedTrees(seed=seed)


def _ranking(seed: int) -> Predictor:
    return RankingTrees(seed=seed)


def _lightgbm(seed: int) -> Predictor:
    return LightGBMTrees(seed=seed)


def _forest(seed: int) -> Predictor:
    return RandomForest(seed=seed)


def _gaussian_process(seed: int) -> Predictor:
    return GaussianProcess(seed=seed)


def _warped(seed: int) -> Predictor:
    return WarpedTargets(partial(_gaussian_process, seed))


def _neural(seed: int) -> Predictor:
    from predictors.neural import NeuralEnsemble  # torch takes seconds to import

    return NeuralEnsemble(seed=seed)


def _automatic(seed: int) -> Predictor:
    members = {name: partial(PREDICTORS[name], seed) for name in CANDIDATES}
    return AutomaticPredictor(members, seed=seed)


PREDICTORS: Mapping[str, Factory] = {
    "gbdt": _gbdt,
    "gbdt-ranking": _ranking,
    "lightgbm": _lightgbm,
    "forest": _forest,
    "gaussian-process": _gaussian_process,
    "gaussian-process-warped": _warped,
    "neural": _neural,
    "automatic": _automatic,
}
"""Factories of predictors with default settings, from a seed of 0 to 2**31 - 1."""
