"""The scale of targets: every predictor learns standardised ones and answers in their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import Prediction

MIN_ROWS = 4
NOT_FITTED = "the predictor is not fitted yet: call fit first"


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation `(m,)` of training targets."""

    center: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, y: NDArray[np.float64]) -> Self:
        """The scale of `y (n, m)`; mean 0 and deviation 1 of no rows."""
        if not len(y):
            return cls(np.zeros(y.shape[1]), np.ones(y.shape[1]))
        return cls(y.mean(axis=0), y.std(axis=0))

    @property
    def spread(self) -> NDArray[np.float64]:
        """The deviation, 1 where a target is constant."""
        return np.where(self.deviation > 0, self.deviation, 1.0)

    def standard(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """`y (n, m)` with mean 0 and spread 1."""
        return (y - self.center) / self.spread

    def restored(self, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Prediction:
        """The prediction whose standardised mean and std `(n, m)` these are.

        A target that never varied is predicted as it was, whatever a model says of it.
        """
        return Prediction(mean * self.deviation + self.center, std * self.deviation)

    def uninformed(self, n: int) -> Prediction:
        """What is known of `n` rows after too few to learn from: mean and spread of the targets."""
        shape = (n, len(self.center))
        return Prediction(np.broadcast_to(self.center, shape), np.broadcast_to(self.spread, shape))
