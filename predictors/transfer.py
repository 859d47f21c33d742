"""A predictor that learns few expensive scores on top of what many cheap ones taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor, TransferPredictor
from predictors._targets import MIN_ROWS, NOT_FITTED


@dataclass
class Transferred(TransferPredictor):
    """Two predictors in turn: `pretrain` on the source task, `fit` on the target task.

    Source and target share their features; targets are column by column akin (the float accuracy
    and the quantized accuracy of a candidate). Without a source it is an ordinary predictor.

    Attributes:
        base: makes the predictor of either step.
        kind: `residual` learns what the least squares line through the source's predictions
            (rising, or flat) leaves, so that scales may differ; `stacked` has those predictions
            among its features.
        source: of the source task, fitted; `pretrain` replaces it.

    Reference: the transfer is that of Wang et al. 2020 (APQ), section 3.3, there by copying the
    weights of a neural net; trees have none to copy.
    """

    base: Callable[[], Predictor]
    kind: Literal["residual", "stacked"] = "residual"
    source: Predictor | None = None
    _line: _Line | None = field(default=None, init=False, repr=False)
    _target: Predictor | None = field(default=None, init=False, repr=False)

    def pretrain(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn the source task from `x (n, d)` and `y (n, m)`, forgetting all. Returns self."""
        self.source = self.base().fit(x, y)
        self._target = None
        return self

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn the target task from `x (n, d)` and `y (n, m)`; the source is kept."""
        self._line = None
        if self.source is None:
            self._target = self.base().fit(x, y)
            return self
        known = self.source.predict(x)
        if self.kind == "stacked":
            self._target = self.base().fit(_stacked(x, known), y)
            return self
        self._line = _Line.through(known.mean, y)
        self._target = self.base().fit(x, y - self._line.at(known.mean))
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict the target task for `x (n, d)`; uncertainties of both steps add up.

        Raises:
            ConflictError: not fitted.
        """
        if self._target is None:
            raise ConflictError(NOT_FITTED)
        if self.source is None:
            return self._target.predict(x)
        known = self.source.predict(x)
        if self._line is None:
            return self._target.predict(_stacked(x, known))
        left = self._target.predict(x)
        mean = self._line.at(known.mean) + left.mean
        return Prediction(mean, np.hypot(self._line.slope * known.std, left.std))


@dataclass(frozen=True)
class _Line:
    """Target by target `slope (m,)` times a source's prediction plus `offset (m,)`."""

    slope: NDArray[np.float64]
    offset: NDArray[np.float64]

    @classmethod
    def through(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> Self:
        """The least squares line of `x` and `y`, both `(n, m)`; never falling.

        With fewer than 4 rows the slope is 1.
        """
        if len(x) < MIN_ROWS:
            offset = (y - x).mean(axis=0) if len(x) else np.zeros(y.shape[1])
            return cls(np.ones(y.shape[1]), offset)
        variance = x.var(axis=0)
        shared = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
        slope = np.maximum(shared, 0.0) / np.where(variance > 0.0, variance, 1.0)
        return cls(slope, y.mean(axis=0) - slope * x.mean(axis=0))

    def at(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(n, m)` heights over `x (n, m)`."""
        return x * self.slope + self.offset


def _stacked(x: NDArray[np.float32], known: Prediction) -> NDArray[np.float32]:
    return np.concatenate([x, known.mean.astype(np.float32)], axis=1)
