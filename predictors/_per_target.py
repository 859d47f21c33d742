"""What predictors share that learn each target by itself, and ensembles that vote on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

Model = TypeVar("Model")
Moments = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass
class PerTarget(Predictor, Generic[Model]):
    """One model per target, which learns it standardised; settings need not fit its units.

    With fewer than 4 rows it predicts their mean.
    """

    _models: list[Model] = field(default_factory=list, init=False, repr=False)
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale, self._models = TargetScale.of(y), []
        if len(y) >= MIN_ROWS:
            standard = self._scale.standard(y)
            self._models = [self._model(x, standard[:, j]) for j in range(y.shape[1])]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._models:
            return self._scale.uninformed(len(x))
        moments = [self._moments(model, x) for model in self._models]
        mean, std = (np.stack(column, axis=1) for column in zip(*moments, strict=True))
        return self._scale.restored(mean, std)

    @abstractmethod
    def _model(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Model:
        """Learn from `x (n, d)` one standardised target `y (n,)`, n at least 4."""

    @abstractmethod
    def _moments(self, model: Model, x: NDArray[np.float32]) -> Moments:
        """`(n,)` mean and standard deviation of the standardised target for `x (n, d)`."""


def opinion(votes: Sequence[NDArray[np.floating]]) -> Moments:
    """`(n,)` mean and standard deviation of the members' votes, `(n,)` each."""
    stacked = np.stack(votes)
    return stacked.mean(axis=0), stacked.std(axis=0)
