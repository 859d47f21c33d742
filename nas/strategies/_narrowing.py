"""Leaving out, as a search goes, the options that only do harm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas.core import Genotypes, SearchSpace
from nas.core.pareto import non_dominated

Narrowing = Callable[[Genotypes, NDArray[np.float64]], NDArray[np.bool_]]
"""`(d, options)` which options only do harm, by `(n, d)` rows and their `(n, m)` losses."""

FIRST, GROWTH = 24, 1.5


class Narrowed:
    """Which candidates are left of a space; judged anew by the first 24, 36, 54, … trials.

    Options of a measured trade-off stay, so that the region of the best is never lost. Violations
    of constraints count as one more loss: what helps to meet them does not only harm.
    """

    def __init__(self, space: SearchSpace, narrow: Narrowing) -> None:
        self._columns = np.arange(len(space))
        self._narrow = narrow
        self._judged: tuple[int, NDArray[np.bool_]] | None = None

    def keeps(
        self,
        rows: Genotypes,
        measured: Genotypes,
        losses: NDArray[np.float64],
        violations: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """`(n,)` which of `(n, d)` rows are left, by `(k, d)` measured ones in finish order."""
        harmful = self.harmful(measured, losses, violations)
        has = harmful[self._columns, rows] & (rows >= 0)
        return np.asarray(~has.any(axis=1))

    def harmful(
        self, measured: Genotypes, losses: NDArray[np.float64], violations: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """`(d, options)` which options are left out."""
        n = judged_by(len(measured))
        if self._judged is None or self._judged[0] != n:
            all_losses = np.concatenate([losses, violations[:, None]], axis=1)
            self._judged = n, self._narrow(measured[:n], all_losses[:n])
        harmful = self._judged[1].copy()
        front = measured[non_dominated(losses, violations)]
        columns = np.broadcast_to(self._columns, front.shape)
        harmful[columns[front >= 0], front[front >= 0]] = False
        return harmful


def judged_by(n: int) -> int:
    """The trials by which a search of `n` trials has last judged its options; 0 for none yet."""
    if n < FIRST:
        return 0
    steps = int(np.log(n / FIRST) / np.log(GROWTH) + 1e-9)
    return min(n, round(FIRST * GROWTH**steps))
