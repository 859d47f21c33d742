"""A predictor that builds on what an earlier job measured, where that pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor, TransferPredictor
from predictors._targets import MIN_ROWS, NOT_FITTED
from predictors.automatic import AutomaticPredictor
from predictors.transfer import Transferred


@dataclass
class WarmStarted(TransferPredictor):
    """Learns from scratch and on top of a related task; the better by cross-validation predicts.

    The choice is `AutomaticPredictor`'s, target by target: with fewer than 16 rows the transfer
    predicts, later whichever ranks held-out rows better, or both. Targets that the related task
    did not measure, and all of them without `pretrain`, are learned from scratch.

    Attributes:
        base: makes the predictor of every part.
        seed: of the cross-validation.
    """

    base: Callable[[], Predictor]
    seed: int = 0
    _sources: dict[int, Predictor] = field(default_factory=dict, init=False, repr=False)
    _fitted: list[tuple[list[int], Predictor]] = field(default_factory=list, init=False, repr=False)
    _automatic: dict[int, AutomaticPredictor] = field(default_factory=dict, init=False, repr=False)

    def pretrain(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn the related task from `x (n, d)` and `y (n, m)`, forgetting all. Returns self.

        Targets with fewer than 4 measured rows are left out.
        """
        self._fitted, self._automatic, self._sources = [], {}, {}
        for j in range(y.shape[1]):
            known = np.isfinite(y[:, j])
            if known.sum() < MIN_ROWS:
                continue
            source = self.base().fit(x[known], y[known][:, [j]])
            self._sources[j] = source
            transferred = partial(Transferred, base=self.base, source=source)
            members: dict[str, Callable[[], Predictor]] = {
                "transferred": transferred,
                "scratch": self.base,
            }
            self._automatic[j] = AutomaticPredictor(members, seed=self.seed)
        return self

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`; the related task is kept. Returns self."""
        plain = [j for j in range(y.shape[1]) if j not in self._automatic]
        self._fitted = [([j], p.fit(x, y[:, [j]])) for j, p in self._automatic.items()]
        if plain:
            self._fitted.append((plain, self.base().fit(x, y[:, plain])))
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if not self._fitted:
            raise ConflictError(NOT_FITTED)
        n_targets = sum(len(targets) for targets, _ in self._fitted)
        mean, std = np.empty((len(x), n_targets)), np.empty((len(x), n_targets))
        for targets, part in self._fitted:
            found = part.predict(x)
            mean[:, targets], std[:, targets] = found.mean, found.std
        return Prediction(mean, std)
