"""A random forest: few settings, hard to upset, uncertainty from its trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from predictors._per_target import Moments, PerTarget

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor


@dataclass
class RandomForest(PerTarget["RandomForestRegressor"]):
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

    def _model(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> RandomForestRegressor:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            self.n_trees,
            max_features=self.feature_share,
            random_state=self.seed,
            n_jobs=self.n_threads,
        )
        return forest.fit(x, y)

    def _moments(self, model: RandomForestRegressor, x: NDArray[np.float32]) -> Moments:
        """Over the trees, one by one to spare memory."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        total, squares = np.zeros(len(x)), np.zeros(len(x))
        for tree in model.estimators_:
            vote = tree.predict(x, check_input=False)
            total += vote
            squares += vote * vote
        n_trees = len(model.estimators_)
        mean = total / n_trees
        return mean, np.sqrt(np.maximum(squares / n_trees - mean * mean, 0.0))
