"""How good a predictor is on candidates it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import Prediction, Predictor


@dataclass(frozen=True)
class Validation:
    """Out-of-fold predictions `(n,)` beside the measured values, and their rank agreement.

    `tau` is nan when either side is constant.
    """

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    tau: float


def kendall_tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kendall's tau-b of two `(n,)` columns; nan when one is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)


def out_of_fold(
    predictor: Callable[[], Predictor],
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    n_folds: int = 5,
    seed: int = 0,
) -> Prediction:
    """Predict each of `n_folds` shuffled folds of `x (n, d)` and `y (n, m)` from the others.

    Args:
        predictor: makes a fresh one.
        x: features.
        y: targets.
        n_folds: at most n.
        seed: of the shuffle.
    """
    fold = np.random.default_rng(seed).permutation(len(y)) % min(n_folds, len(y))
    mean, std = np.empty(y.shape), np.empty(y.shape)
    for k in np.unique(fold):
        held = fold == k
        found = predictor().fit(x[~held], y[~held]).predict(x[held])
        mean[held], std[held] = found.mean, found.std
    return Prediction(mean, std)


def cross_validate(
    predictor: Callable[[], Predictor],
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    n_folds: int = 5,
    seed: int = 0,
) -> Validation:
    """Predict each of `n_folds` shuffled folds from the others.

    Args:
        predictor: makes a fresh one.
        x: `(n, d)` features.
        y: `(n,)` target.
        n_folds: at most n.
        seed: of the shuffle.
    """
    predicted = out_of_fold(predictor, x, y[:, None], n_folds, seed).mean[:, 0]
    return Validation(predicted, y, kendall_tau(predicted, y))
