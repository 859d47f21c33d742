"""Predictors by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nas.core import DifferentiablePredictor, Predictor, UnknownNameError
from predictors.automatic import AutomaticPredictor
from predictors.forest import RandomForest
from predictors.gaussian_process import GaussianProcess
from predictors.gbdt import GradientBoostedTrees, RankingTrees
from predictors.lightgbm import LightGBMTrees
from predictors.warping import WarpedTargets

Factory = Callable[[int], Predictor]

DEFAULT = "gaussian-process-warped"
"""The predictor of searches for one metric that name none: ranks best from few rows."""

DEFAULT_FOR_SEVERAL = "gaussian-process"
"""The same for trade-offs: what a candidate adds to a front depends on values, not on ranks."""

CANDIDATES = ("gaussian-process-warped", "gaussian-process", "gbdt-ranking", "gbdt", "forest")
"""What `automatic` chooses from, the default first."""


def predictor(name: str, seed: int) -> Predictor:
    """A fresh predictor with default settings.

    Raises:
        UnknownNameError: no predictor of that name.
    """
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
