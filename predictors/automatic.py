"""The predictor that ranks best so far, target by target."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core import ConflictError, Prediction, Predictor
from predictors._targets import NOT_FITTED, TargetScale
from predictors.validation import kendall_tau, out_of_fold

MIN_TO_CHOOSE = 16


@dataclass
class AutomaticPredictor(Predictor):
    """Per target the members of the highest cross-validated Kendall tau, averaged.

    Members within `margin` of the best tau are averaged with equal weights, and their
    disagreement is added to the uncertainty. With fewer than 16 rows, or where no member's tau is
    a number, the first member predicts.

    It chooses by the first 16, 20, 25, … rows, the most there are, and remembers the last choice.
    Fits after which the table has grown by less than `growth` therefore cost no cross-validation,
    and the choice is a function of the rows alone: a search that is resumed chooses as before.

    Attributes:
        members: factories by name, the default first.
        margin: of tau, within which members are as good as the best.
        growth: of the number of rows from choice to choice.
        n_folds: of the cross-validation.
        seed: of the folds.
        chosen: names per target, best first; empty before a fit.
        taus: by name, one per target, of the last choice; empty where there was none.
    """

    members: Mapping[str, Callable[[], Predictor]]
    margin: float = 0.03
    growth: float = 1.25
    n_folds: int = 5
    seed: int = 0
    chosen: tuple[tuple[str, ...], ...] = field(default=(), init=False)
    taus: dict[str, tuple[float, ...]] = field(default_factory=dict, init=False)
    _known: tuple[str, dict[str, tuple[float, ...]]] = field(
        default=("", {}), init=False, repr=False
    )
    _fitted: dict[str, tuple[list[int], Predictor]] = field(
        default_factory=dict, init=False, repr=False
    )
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale = TargetScale.of(y)
        n = self._n_judged(len(y))
        self.taus = self._judged(x[:n], y[:n]) if n else {}
        self.chosen = tuple(self._choice(j) for j in range(y.shape[1]))
        self._fitted = {}
        for name, make in self.members.items():
            targets = [j for j, names in enumerate(self.chosen) if name in names]
            if targets:
                self._fitted[name] = targets, make().fit(x, y[:, targets])
        return self

    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        shape = (len(x), len(self.chosen))
        share = np.array([1.0 / len(names) for names in self.chosen])
        mean, squares = np.zeros(shape), np.zeros(shape)
        for targets, member in self._fitted.values():
            found = member.predict(x)
            away = (found.mean - self._scale.center[targets]) / self._scale.spread[targets]
            std = found.std / self._scale.spread[targets]
            mean[:, targets] += away * share[targets]
            squares[:, targets] += (away**2 + std**2) * share[targets]
        return self._scale.restored(mean, np.sqrt(np.maximum(squares - mean**2, 0.0)))

    # ---------------------------------------------------------------- inside

    def _n_judged(self, n: int) -> int:
        """The rows to choose by: the last of 16, 20, 25, … that there are; 0 where none."""
        if n < MIN_TO_CHOOSE:
            return 0
        steps = int(np.log(n / MIN_TO_CHOOSE) / np.log(self.growth) + 1e-9)
        return min(n, round(MIN_TO_CHOOSE * self.growth**steps))

    def _judged(
        self, x: NDArray[np.float32], y: NDArray[np.float64]
    ) -> dict[str, tuple[float, ...]]:
        """Tau of every member and target; remembered while the rows stay the same."""
        digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
        if self._known[0] != digest:
            self._known = digest, {n: self._tau(make, x, y) for n, make in self.members.items()}
        return self._known[1]

    def _tau(
        self, make: Callable[[], Predictor], x: NDArray[np.float32], y: NDArray[np.float64]
    ) -> tuple[float, ...]:
        mean = out_of_fold(make, x, y, self.n_folds, self.seed).mean
        return tuple(kendall_tau(mean[:, j], y[:, j]) for j in range(y.shape[1]))

    def _choice(self, target: int) -> tuple[str, ...]:
        """Members within the margin of the best, best first."""
        taus = {name: values[target] for name, values in self.taus.items()}
        known = {name: tau for name, tau in taus.items() if np.isfinite(tau)}
        if not known:
            return (next(iter(self.members)),)
        bar = max(known.values()) - self.margin
        near = [name for name, tau in known.items() if tau >= bar]
        return tuple(sorted(near, key=lambda name: -known[name]))
