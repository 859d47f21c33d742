"""Trees that learn few expensive scores on top of what many cheap ones taught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors.gbdt import GradientBoostedTrees


def boosted_trees(seed: int) -> GradientBoostedTrees:
    """Boosted trees with default settings."""
    return GradientBoostedTrees(seed=seed)


@dataclass
class TransferredTrees(Predictor):
    """Boosted trees in two steps: `pretrain` on the source task, `fit` on the target task.

    Source and target share their features; targets are column by column akin (the float accuracy
    and the quantized accuracy of a candidate). Without `pretrain` it is an ordinary ensemble.

    Attributes:
        kind: `residual` learns target minus the source's prediction, `stacked` has that
            prediction among its features.
        seed: of both steps.
        base: makes the predictor of a step from a seed, if not boosted trees.

    Reference: the transfer is that of Wang et al. 2020 (APQ), section 3.3, there by copying the
    weights of a neural net; trees have none to copy.
    """

    kind: Literal["residual", "stacked"] = "residual"
    seed: int = 0
    base: Callable[[int], Predictor] = boosted_trees
    _source: Predictor | None = field(default=None, init=False, repr=False)
    _target: Predictor | None = field(default=None, init=False, repr=False)

    def pretrain(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn the source task from `x (n, d)` and `y (n, m)`, forgetting all. Returns self."""
        self._source = self.base(self.seed).fit(x, y)
        self._target = None
        return self

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn the target task from `x (n, d)` and `y (n, m)`; the source is kept."""
        residual = self.kind == "residual" and self._source is not None
        left = y - self._source.predict(x).mean if residual and self._source is not None else y
        self._target = self.base(self.seed).fit(self._features(x), left)
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict the target task for `x (n, d)`; uncertainties of both steps add up.

        Raises:
            ConflictError: not fitted.
        """
        if self._target is None:
            raise ConflictError("the predictor is not fitted yet: call fit first")
        found = self._target.predict(self._features(x))
        if self._source is None or self.kind == "stacked":
            return found
        base = self._source.predict(x)
        return Prediction(base.mean + found.mean, np.hypot(base.std, found.std))

    def _features(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._source is None or self.kind == "residual":
            return x
        return np.concatenate([x, self._source.predict(x).mean.astype(np.float32)], axis=1)
