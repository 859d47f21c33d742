"""The candidate of the least loss that coordinate descent finds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Genotypes
from nas.core.space import SearchSpace

N_SAMPLES = 2_000


def descend(
    space: SearchSpace, loss: Callable[[Genotypes], NDArray[np.float64]], n_starts: int = 4
) -> Genotypes:
    """`(d,)` row of the least `loss` that steepest coordinate descent finds from several starts.

    Exact wherever the loss is monotone in every decision. The same call gives the same row.
    """
    starts = space.sample(N_SAMPLES, np.random.default_rng(0))
    best: Genotypes | None = None
    best_loss = np.inf
    for start in starts[np.argsort(loss(starts), kind="stable")[:n_starts]]:
        row, value = start, float(loss(start[None])[0])
        while True:
            around = space.neighbours(row)
            losses = loss(around) if len(around) else np.array([np.inf])
            step = int(losses.argmin())
            if not losses[step] < value:
                break
            row, value = around[step], float(losses[step])
        if best is None or value < best_loss:
            best, best_loss = row, value
    assert best is not None
    return best
