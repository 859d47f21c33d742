"""Targets by rank: what helps every regression where a few values lie far from the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

Column = NDArray[np.float64]

TAIL = 0.25


@dataclass
class WarpedTargets(Predictor):
    """Another predictor, taught normal scores of the targets' ranks instead of the targets.

    Accuracies of random candidates have a long lower tail, which a regression of the plain values
    spends its effort on. Predictions are mapped back through the training targets, linearly
    between them and beyond the outermost, so the order is kept. A standard deviation is half the
    way from one below to one above the mean. With fewer than 4 rows it predicts their mean.

    Attributes:
        base: makes the predictor that learns the scores.

    Reference: Snelson et al. 2004 (warped Gaussian processes); the warp here is the empirical
    one (van der Waerden scores) instead of a learned one.
    """

    base: Callable[[], Predictor]
    _fitted: Predictor | None = field(default=None, init=False, repr=False)
    _warps: list[_Warp] = field(default_factory=list, init=False, repr=False)
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale, self._fitted = TargetScale.of(y), None
        if len(y) >= MIN_ROWS:
            self._warps = [_Warp.through(column) for column in y.T]
            self._fitted = self.base().fit(x, _by_column(_Warp.scores, self._warps, y))
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if self._fitted is None:
            return self._scale.uninformed(len(x))
        found = self._fitted.predict(x)
        below, mean, above = (
            _by_column(_Warp.values, self._warps, found.mean + shift * found.std)
            for shift in (-1.0, 0.0, 1.0)
        )
        return Prediction(mean, (above - below) / 2)


@dataclass(frozen=True)
class _Warp:
    """The distinct targets, rising, and the normal score of each."""

    targets: Column
    normal: Column

    @classmethod
    def through(cls, y: Column) -> Self:
        from scipy.special import ndtri

        targets, counts = np.unique(y, return_counts=True)
        middle = (np.cumsum(counts) - counts / 2) / len(y)
        return cls(targets, ndtri(middle))

    def scores(self, y: Column) -> Column:
        return np.interp(y, self.targets, self.normal)

    def values(self, scores: Column) -> Column:
        inside = np.interp(scores, self.normal, self.targets)
        low, high = self._slopes()
        under = np.minimum(scores - self.normal[0], 0.0) * low
        over = np.maximum(scores - self.normal[-1], 0.0) * high
        return inside + under + over

    def _slopes(self) -> tuple[float, float]:
        """Target per score in the lower and the upper quarter."""
        last = len(self.targets) - 1
        if last == 0:
            return 0.0, 0.0
        reach = max(1, int(TAIL * last))
        rise = self.targets[[reach, last]] - self.targets[[0, last - reach]]
        run = self.normal[[reach, last]] - self.normal[[0, last - reach]]
        low, high = (rise / run).tolist()
        return low, high


def _by_column(
    apply: Callable[[_Warp, Column], Column], warps: list[_Warp], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    columns = zip(warps, values.T, strict=True)
    return np.stack([apply(warp, column) for warp, column in columns], axis=1)
