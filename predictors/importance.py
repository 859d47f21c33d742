"""Which decisions matter for a metric."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core import Genotypes, SearchSpace
from predictors._targets import MIN_ROWS
from predictors.encoders import encode, feature_names
from predictors.gbdt import GradientBoostedTrees


def decision_importance(
    space: SearchSpace, rows: Genotypes, y: NDArray[np.float64], seed: int = 0
) -> dict[str, float]:
    """Mean absolute SHAP value per decision, largest first, as shares of their sum.

    Empty when there are too few rows, or `y` is constant.

    Args:
        space: of the rows.
        rows: `(n, d)` measured candidates.
        y: `(n,)` metric.
        seed: of the trees.
    """
    if len(rows) < MIN_ROWS or np.ptp(y) == 0.0:
        return {}
    features = encode(space, rows)
    trees = GradientBoostedTrees(seed=seed).fit(features, y[:, None])
    weight = np.abs(trees.contributions(features)).mean(axis=0)
    shares = dict.fromkeys(space.names, 0.0)
    for name, value in zip(feature_names(space), weight, strict=True):
        shares[name.split("=")[0]] += float(value)
    total = sum(shares.values())
    if total == 0.0:
        return {}
    return dict(sorted(((k, v / total) for k, v in shares.items()), key=lambda kv: -kv[1]))
