"""Fewer points that look the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def thinned(
    x: NDArray[np.float64], y: NDArray[np.float64], keep: NDArray[np.bool_], limit: int
) -> NDArray[np.bool_]:
    """`(n,)` which points to leave out so that about `limit` stay, evenly over the plane.

    Of the points of one cell of a grid the first stays; the grid is as fine as the limit allows.
    """
    if len(x) <= limit:
        return np.zeros(len(x), dtype=np.bool_)
    room = max(limit - int(keep.sum()), 1)
    for n in (512, 256, 128, 64, 32, 16, 8, 4):
        first = np.unique(_place(x, n) * (n + 1) + _place(y, n), return_index=True)[1]
        if len(first) <= room:
            break
    stays = keep.copy()
    stays[first[evenly(len(first), room)]] = True
    return ~stays


def spread(at: NDArray[np.int64], first: NDArray[np.bool_], limit: int) -> NDArray[np.int64]:
    """Of positions `at`, those marked in `first` and others evenly, `limit` in all, in order."""
    marked, others = at[first[at]], at[~first[at]]
    marked = marked[evenly(len(marked), limit)]
    kept = others[evenly(len(others), limit - len(marked))]
    return np.sort(np.concatenate([marked, kept]))


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the positions 0 to n - 1, both ends among them."""
    if n == 0 or most <= 0:
        return np.empty(0, dtype=np.int64)
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def _place(values: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """`(n,)` cell of each value among `n` of equal width over all but the outermost percent."""
    low, high = np.percentile(values, [0.5, 99.5])
    return np.digitize(values, np.linspace(low, high, n)).astype(np.int64)
