"""Which of many predicted points adds most to the trade-offs known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.core.pareto import hypervolume, non_dominated

MAX_SCORED = 128
MARGIN = 1.1
"""Reference point, in ranges of known and promising points above their best."""


def most_improving(
    points: NDArray[np.float64], known: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """Which of `(n, m)` losses adds most hypervolume to `(k, m)` known ones; k may be 0.

    Of more than 128 points that no other dominates, a random 128 compete. They span the volume,
    too: one that is worse in an objective than anything known may be the end of a longer front.

    Reference: Emmerich et al. 2006, hypervolume improvement.
    """
    low = np.vstack([known, points]).min(axis=0)
    able = np.flatnonzero(non_dominated(points))
    high = np.vstack([known, points[able]]).max(axis=0)
    scale = np.where(high > low, high - low, 1.0)
    reference = np.full(points.shape[1], MARGIN)
    front = (known[non_dominated(known)] - low) / scale
    scaled = (points - low) / scale
    if len(able) > MAX_SCORED:
        able = rng.choice(able, MAX_SCORED, replace=False)
    base = hypervolume(front, reference)
    gains = [hypervolume(np.vstack([front, scaled[i]]), reference) - base for i in able]
    return int(able[int(np.argmax(gains))])
