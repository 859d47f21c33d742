"""Gradient boosted trees with uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor

if TYPE_CHECKING:
    from xgboost import Booster

MIN_ROWS = 4


@dataclass
class GradientBoostedTrees(Predictor):
    """XGBoost ensembles, one per target; the members' disagreement is the uncertainty.

    Members see different bootstrap samples. Targets are standardised inside, so settings do not
    depend on units. With fewer than 4 rows it predicts their mean.

    Attributes:
        n_members: boosters per target.
        n_trees: boosting rounds of each.
        max_depth: of a tree.
        learning_rate: shrinkage.
        seed: of the bootstrap samples.
        n_threads: of XGBoost.
    """

    n_members: int = 4
    n_trees: int = 80
    max_depth: int = 4
    learning_rate: float = 0.12
    seed: int = 0
    n_threads: int = 1
    _members: list[list[Booster]] = field(default_factory=list, init=False, repr=False)
    _center: NDArray[np.float64] | None = field(default=None, init=False, repr=False)
    _scale: NDArray[np.float64] | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._center = y.mean(axis=0) if len(y) else np.zeros(y.shape[1])
        spread = y.std(axis=0) if len(y) else np.ones(y.shape[1])
        self._scale = np.where(spread > 0, spread, 1.0)
        standard = (y - self._center) / self._scale
        enough = len(y) >= MIN_ROWS
        self._members = [
            [self._booster(x, standard[:, j], member) for member in range(self.n_members)]
            for j in range(y.shape[1])
            if enough
        ]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._center is None or self._scale is None:
            raise ConflictError("the predictor is not fitted yet: call fit first")
        shape = (len(x), len(self._center))
        if not self._members:
            return Prediction(
                np.broadcast_to(self._center, shape), np.broadcast_to(self._scale, shape)
            )
        votes = np.stack(
            [[member.inplace_predict(x) for member in target] for target in self._members]
        )  # (m, members, n)
        mean = votes.mean(axis=1).T * self._scale + self._center
        return Prediction(mean, votes.std(axis=1).T * self._scale)

    def contributions(self, x: NDArray[np.float32], target: int = 0) -> NDArray[np.float64]:
        """`(n, d)` SHAP values of a target, averaged over members, in the target's units.

        Raises:
            ConflictError: not fitted, or fitted on too few rows to explain anything.

        Reference: Lundberg et al. 2020 (TreeSHAP).
        """
        if not self._members or self._scale is None:
            raise ConflictError("the predictor is not fitted on enough rows yet")
        from xgboost import DMatrix

        matrix = DMatrix(x, nthread=self.n_threads)
        parts = [member.predict(matrix, pred_contribs=True) for member in self._members[target]]
        return np.asarray(np.mean(parts, axis=0)[:, :-1] * self._scale[target], dtype=np.float64)

    def _booster(self, x: NDArray[np.float32], y: NDArray[np.float64], member: int) -> Booster:
        import xgboost

        rng = np.random.default_rng((self.seed, member))
        drawn = rng.integers(len(x), size=len(x))
        settings = {
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "subsample": 0.9,
            "colsample_bytree": 0.9,
            "min_child_weight": 1,
            "seed": self.seed + member,
            "nthread": self.n_threads,
            "verbosity": 0,
        }
        data = xgboost.DMatrix(x[drawn], y[drawn], nthread=self.n_threads)
        return xgboost.train(settings, data, self.n_trees)
