"""A random forest: few settings, hard to upset, uncertainty from its trees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor


@dataclass
class RandomForest(Predictor):
    """scikit-learn forests, one per target; the spread over the trees is the uncertainty.

    With fewer than 4 rows it predicts their mean.

    Attributes:
        n_trees: per target, each grown on a bootstrap sample until its leaves are pure.
        feature_share: share of the columns tried at a split.
        seed: of samples and columns.
        n_threads: of fitting.

    Reference: Breiman 2001; Hutter et al. 2011 (SMAC) for the spread over trees.
    """

    n_trees: int = 100
    feature_share: float = 0.5
    seed: int = 0
    n_threads: int = 1
    _forests: list[RandomForestRegressor] = field(default_factory=list, init=False, repr=False)
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale = TargetScale.of(y)
        standard = self._scale.standard(y)
        enough = len(y) >= MIN_ROWS
        self._forests = [self._forest(x, standard[:, j]) for j in range(y.shape[1]) if enough]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._forests:
            return self._scale.uninformed(len(x))
        x = np.ascontiguousarray(x, dtype=np.float32)
        moments = [_moments(forest, x) for forest in self._forests]
        mean, std = (np.stack(column, axis=1) for column in zip(*moments, strict=True))
        return self._scale.restored(mean, std)

    def _forest(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> RandomForestRegressor:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            self.n_trees,
            max_features=self.feature_share,
            random_state=self.seed,
            n_jobs=self.n_threads,
        )
        return forest.fit(x, y)


def _moments(
    forest: RandomForestRegressor, x: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(n,)` mean and standard deviation over the trees, tree by tree to spare memory."""
    total, squares = np.zeros(len(x)), np.zeros(len(x))
    for tree in forest.estimators_:
        vote = tree.predict(x, check_input=False)
        total += vote
        squares += vote * vote
    mean = total / len(forest.estimators_)
    return mean, np.sqrt(np.maximum(squares / len(forest.estimators_) - mean * mean, 0.0))
