"""Gaussian processes of several views of a candidate, weighted by what each foretells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import NOT_FITTED
from predictors.gaussian_process import GaussianProcess

SUM_WEIGHT = 1e3


@dataclass
class StackedProcesses(Predictor):
    """One Gaussian process per view of the features, averaged with weights, target by target.

    Weights are at least 0 and sum to 1; they minimise the squared error of the training rows, each
    predicted from the others. So an accuracy may follow the structure of a cell, a latency the
    options as they are written down, and what both tell is averaged. The processes' disagreement
    is added to the uncertainty.

    Attributes:
        views: columns of the features, process by process.
        seed: of the processes' draws.
        weights: `(views, m)` of the last fit.

    Reference: Breiman 1996 (stacked regressions), by leave-one-out as in Wolpert 1992.
    """

    views: Sequence[slice]
    seed: int = 0
    weights: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)), init=False)
    _members: list[GaussianProcess] = field(default_factory=list, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._members = [GaussianProcess(seed=self.seed).fit(x[:, view], y) for view in self.views]
        errors = np.stack([member.left_out_errors() for member in self._members])
        columns = [_weights(errors[:, :, j].T) for j in range(y.shape[1])]
        self.weights = np.stack(columns, axis=1)
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if not self._members:
            raise ConflictError(NOT_FITTED)
        pairs = zip(self._members, self.views, strict=True)
        found = [member.predict(x[:, view]) for member, view in pairs]
        means, stds = np.stack([p.mean for p in found]), np.stack([p.std for p in found])
        mean = np.einsum("vm,vnm->nm", self.weights, means)
        variance = np.einsum("vm,vnm->nm", self.weights, stds**2 + (means - mean) ** 2)
        return Prediction(mean, np.sqrt(variance))


def _weights(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(v,)` shares whose average of `(n, v)` errors is smallest; even ones without errors."""
    n_views = errors.shape[1]
    if not errors.any():
        return np.full(n_views, 1.0 / n_views)
    from scipy.optimize import nnls

    heavy = np.full((1, n_views), SUM_WEIGHT * np.abs(errors).max())
    goal = np.append(np.zeros(len(errors)), heavy[0, 0])
    found = nnls(np.vstack([errors, heavy]), goal)[0]
    return np.asarray(found / found.sum())
