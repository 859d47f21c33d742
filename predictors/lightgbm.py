"""Gradient boosted trees by LightGBM, an extra: `pip install nas[lightgbm]`."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas.core import InvalidInputError
from predictors._per_target import Moments, PerTarget, opinion

if TYPE_CHECKING:
    from lightgbm import Booster

MAX_LEAF_ROWS = 20


@dataclass
class LightGBMTrees(PerTarget["list[Booster]"]):
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

    Raises:
        InvalidInputError: at the first fit, where LightGBM is not installed.

    Reference: Luo et al. 2020 (GBDT-NAS), with the settings of the authors' repository.
    """

    n_members: int = 4
    n_trees: int = 100
    n_leaves: int = 31
    learning_rate: float = 0.05
    seed: int = 0
    n_threads: int = 1

    def _model(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> list[Booster]:
        lightgbm = _lightgbm()
        return [self._booster(lightgbm, x, y, member) for member in range(self.n_members)]

    def _moments(self, model: list[Booster], x: NDArray[np.float32]) -> Moments:
        votes = [np.asarray(m.predict(x, num_threads=self.n_threads)) for m in model]
        return opinion(votes)

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
