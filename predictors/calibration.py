"""Standard deviations that mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import NOT_FITTED
from predictors.validation import out_of_fold

MIN_CALIBRATED = 10
FLOOR = 0.1


@dataclass
class CalibratedPredictor(Predictor):
    """Another predictor whose standard deviations are scaled to fit its out-of-fold residuals.

    Per target, `factor * sqrt(std^2 + floor^2)` with a floor of a tenth of the residuals' root mean
    square (members that agree are not certain), and the factor with which a share `level` of the
    held-out targets lies as near the mean as `level` of a normal distribution does. With fewer than
    10 rows the standard deviations stay as they are.

    Attributes:
        base: makes the predictor; it is fitted `n_folds + 1` times.
        level: share that is made right, 0 to 1; 0.68 makes it right for one standard deviation.
        n_folds: of the residuals.
        seed: of the folds.

    Reference: Lei et al. 2018 (normalised residuals of split conformal prediction), with
    out-of-fold residuals in place of a set held out.
    """

    base: Callable[[], Predictor]
    level: float = 0.68
    n_folds: int = 5
    seed: int = 0
    _fitted: Predictor | None = field(default=None, init=False, repr=False)
    _floor: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1), init=False, repr=False)
    _factor: NDArray[np.float64] = field(default_factory=lambda: np.ones(1), init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._floor, self._factor = np.zeros(y.shape[1]), np.ones(y.shape[1])
        if len(y) >= MIN_CALIBRATED:
            held_out = out_of_fold(self.base, x, y, self.n_folds, self.seed)
            residuals = np.abs(y - held_out.mean)
            self._floor = FLOOR * np.sqrt((residuals**2).mean(axis=0))
            width = np.hypot(held_out.std, self._floor)
            ratio = np.divide(residuals, width, out=np.zeros(y.shape), where=width > 0)
            share = min(1.0, self.level * (len(y) + 1) / len(y))
            reached = np.quantile(ratio, share, axis=0, method="higher")
            self._factor = reached / deviations(self.level)
        self._fitted = self.base().fit(x, y)
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._fitted is None:
            raise ConflictError(NOT_FITTED)
        found = self._fitted.predict(x)
        return Prediction(found.mean, np.hypot(found.std, self._floor) * self._factor)


def coverage(
    predictor: Callable[[], Predictor],
    x: NDArray[np.float32],
    y: NDArray[np.float64],
    level: float = 0.68,
    n_folds: int = 5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """`(m,)` share of held-out targets within the central `level` interval of their prediction.

    A calibrated predictor gives `level`; less is overconfident.

    Args:
        predictor: makes a fresh one.
        x: `(n, d)` features.
        y: `(n, m)` targets.
        level: share that the normal distributions predicted have inside, 0 to 1.
        n_folds: at most n.
        seed: of the folds.
    """
    found = out_of_fold(predictor, x, y, n_folds, seed)
    return (np.abs(y - found.mean) <= deviations(level) * found.std).mean(axis=0)


def deviations(level: float) -> float:
    """Standard deviations either side of the mean that hold a share `level` of a normal."""
    return NormalDist().inv_cdf((1.0 + level) / 2.0)
