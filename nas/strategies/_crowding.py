"""Order within a set of trade-offs: rank first, then distance to the neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core.pareto import ranks


def crowding(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n,)` sum over objectives of the gap between a row's two neighbours; ends are infinite.

    Reference: Deb et al. 2002 (NSGA-II), section III.B.
    """
    n, m = losses.shape
    distance = np.zeros(n)
    for j in range(m):
        order = np.argsort(losses[:, j], kind="stable")
        column = losses[order, j]
        span = column[-1] - column[0]
        distance[order[0]] = distance[order[-1]] = np.inf
        if n > 2 and np.isfinite(span) and span > 0:
            distance[order[1:-1]] += (column[2:] - column[:-2]) / span
    return distance


def best_first(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> NDArray[np.int64]:
    """`(n,)` row numbers from best to worst: constrained rank, then crowding within the rank."""
    rank = ranks(losses, violations)
    by_rank = np.argsort(rank, kind="stable")
    sizes = np.bincount(rank)
    ends = np.cumsum(sizes)
    spread = np.full(len(losses), np.inf)
    for r in np.flatnonzero(sizes > 1):  # who is alone is an end
        members = by_rank[ends[r] - sizes[r] : ends[r]]
        spread[members] = crowding(losses[members])
    return np.lexsort((-spread, rank)).astype(np.int64)
