"""Gradient boosted trees with uncertainty, by regression and by ranking pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError
from predictors._per_target import Moments, PerTarget, opinion

if TYPE_CHECKING:
    from xgboost import Booster

N_PAIRS = 8


@dataclass
class GradientBoostedTrees(PerTarget["list[Booster]"]):
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

    def contributions(self, x: NDArray[np.float32], target: int = 0) -> NDArray[np.float64]:
        """`(n, d)` SHAP values of a target, averaged over members, in the target's units.

        Raises:
            ConflictError: not fitted, or fitted on too few rows to explain anything.

        Reference: Lundberg et al. 2020 (TreeSHAP).
        """
        if not self._models or self._scale is None:
            raise ConflictError("the predictor is not fitted on enough rows yet")
        from xgboost import DMatrix

        matrix = DMatrix(x, nthread=self.n_threads)
        parts = [member.predict(matrix, pred_contribs=True) for member in self._models[target]]
        spread = self._scale.spread[target]
        return np.asarray(np.mean(parts, axis=0)[:, :-1] * spread, dtype=np.float64)

    def _model(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> list[Booster]:
        return [self._booster(x, y, member) for member in range(self.n_members)]

    def _moments(self, model: list[Booster], x: NDArray[np.float32]) -> Moments:
        return opinion([member.inplace_predict(x) for member in model])

    def _booster(self, x: NDArray[np.float32], y: NDArray[np.float64], member: int) -> Booster:
        import xgboost

        rng = np.random.default_rng((self.seed, member))
        drawn = rng.integers(len(x), size=len(x))
        data = xgboost.DMatrix(x[drawn], y[drawn], nthread=self.n_threads)
        settings = _settings(self.max_depth, self.learning_rate, self.seed + member, self.n_threads)
        return xgboost.train(settings, data, self.n_trees)


@dataclass
class RankingTrees(PerTarget["list[_Ranker]"]):
    """XGBoost ensembles that learn which of two rows is better, one ensemble per target.

    How far two rows lie apart does not matter to what is learned, so targets with long tails
    (accuracies) are ranked better than by regression. A member's scores are mapped to the
    target's units by the least squares line through the training rows, so that its order stays
    as learned; the members' disagreement there is the uncertainty. With fewer than 4 rows it
    predicts their mean.

    Attributes:
        n_members: boosters per target; they draw different pairs, rows and columns.
        n_trees: boosting rounds of each.
        max_depth: of a tree.
        learning_rate: shrinkage.
        seed: of the draws.
        n_threads: of XGBoost.

    Reference: Burges 2010 (RankNet and LambdaMART), with 8 random partners per row and round.
    """

    n_members: int = 4
    n_trees: int = 80
    max_depth: int = 4
    learning_rate: float = 0.12
    seed: int = 0
    n_threads: int = 1

    def _model(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> list[_Ranker]:
        return [self._ranker(x, y, member) for member in range(self.n_members)]

    def _moments(self, model: list[_Ranker], x: NDArray[np.float32]) -> Moments:
        return opinion([member.predict(x) for member in model])

    def _ranker(self, x: NDArray[np.float32], y: NDArray[np.float64], member: int) -> _Ranker:
        import xgboost

        group = np.zeros(len(x), dtype=np.int32)
        data = xgboost.DMatrix(x, y, qid=group, nthread=self.n_threads)
        settings = _settings(self.max_depth, self.learning_rate, self.seed + member, self.n_threads)
        settings |= {
            "objective": "rank:pairwise",
            "lambdarank_pair_method": "mean",
            "lambdarank_num_pair_per_sample": N_PAIRS,
        }
        booster = xgboost.train(settings, data, self.n_trees)
        return _Ranker.through(booster, x, y)


@dataclass(frozen=True)
class _Ranker:
    """A booster whose scores, times `slope` plus `offset`, are standardised targets."""

    booster: Booster
    slope: float
    offset: float

    @classmethod
    def through(cls, booster: Booster, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """With the least squares line through the scores of `x (n, d)` and `y (n,)`."""
        scores = np.asarray(booster.inplace_predict(x), dtype=np.float64)
        variance = float(scores.var())
        shared = float(((scores - scores.mean()) * (y - y.mean())).mean())
        slope = max(shared, 0.0) / variance if variance > 0.0 else 0.0
        return cls(booster, slope, float(y.mean() - slope * scores.mean()))

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        scores = np.asarray(self.booster.inplace_predict(x), dtype=np.float64)
        return scores * self.slope + self.offset


def _settings(max_depth: int, learning_rate: float, seed: int, n_threads: int) -> dict[str, Any]:
    return {
        "max_depth": max_depth,
        "learning_rate": learning_rate,
        "subsample": 0.9,
        "colsample_bytree": 0.9,
        "min_child_weight": 1,
        "seed": seed,
        "nthread": n_threads,
        "verbosity": 0,
    }
