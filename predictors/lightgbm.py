"""Gradient boosted trees by LightGBM, an extra: `pip install nas[lightgbm]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, InvalidInputError, Prediction, Predictor
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

if TYPE_CHECKING:
    from lightgbm import Booster

MAX_LEAF_ROWS = 20


@dataclass
class LightGBMTrees(Predictor):
    """LightGBM ensembles, one per target; the members' disagreement is the uncertainty.

    Settings are those of GBDT-NAS. Departures: members differ by bootstrap sample and seed, and a
    leaf needs a tenth of the rows, at most 20 (LightGBM's default, with which fewer than 40 rows
    cannot be split at all). With fewer than 4 rows it predicts their mean.

    Attributes:
        n_members: boosters per target.
        n_trees: boosting rounds of each.
        n_leaves: of a tree, at most.
        learning_rate: shrinkage.
        seed: of the bootstrap samples.
        n_threads: of LightGBM.

    Reference: Luo et al. 2020 (GBDT-NAS), with the settings of the authors' repository.
    """

    n_members: int = 4
    n_trees: int = 100
    n_leaves: int = 31
    learning_rate: float = 0.05
    seed: int = 0
    n_threads: int = 1
    _members: list[list[Booster]] = field(default_factory=list, init=False, repr=False)
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self.

        Raises:
            InvalidInputError: LightGBM is not installed.
        """
        lightgbm = _lightgbm()
        self._scale = TargetScale.of(y)
        standard = self._scale.standard(y)
        enough = len(y) >= MIN_ROWS
        self._members = [
            [self._booster(lightgbm, x, standard[:, j], k) for k in range(self.n_members)]
            for j in range(y.shape[1])
            if enough
        ]
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._members:
            return self._scale.uninformed(len(x))
        votes = np.stack(
            [
                [member.predict(x, num_threads=self.n_threads) for member in target]
                for target in self._members
            ]
        )  # (m, members, n)
        return self._scale.restored(votes.mean(axis=1).T, votes.std(axis=1).T)

    def _booster(
        self, lightgbm: ModuleType, x: NDArray[np.float32], y: NDArray[np.float64], member: int
    ) -> Booster:
        rng = np.random.default_rng((self.seed, member))
        drawn = rng.integers(len(x), size=len(x))
        settings = {
            "objective": "regression",
            "num_leaves": self.n_leaves,
            "learning_rate": self.learning_rate,
            "feature_fraction": 0.9,
            "bagging_fraction": 0.8,
            "bagging_freq": 5,
            "min_data_in_leaf": int(np.clip(len(x) // 10, 1, MAX_LEAF_ROWS)),
            "min_data_in_bin": 1,
            "seed": self.seed + member,
            "num_threads": self.n_threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        return lightgbm.train(settings, lightgbm.Dataset(x[drawn], y[drawn]), self.n_trees)


def _lightgbm() -> ModuleType:
    try:
        import lightgbm
    except ImportError as error:
        raise InvalidInputError(
            "predictor", "lightgbm", "it is not installed here: pip install nas[lightgbm]"
        ) from error
    return lightgbm
