"""Expected costs of a distribution over candidates, and how they change with its probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Genotypes
from nas.core.space import SearchSpace

Probabilities = Sequence[NDArray[np.float64]]
"""One vector `(options,)` per decision; decisions are drawn independently of each other."""


def drawn_rows(probabilities: Probabilities, n: int, rng: np.random.Generator) -> Genotypes:
    """`(n, d)` option indices drawn decision by decision, before inactive ones are dropped."""
    columns = [rng.choice(len(p), n, p=p / p.sum()) for p in probabilities]
    return np.stack(columns, axis=1).astype(np.int16)


def expected(
    space: SearchSpace,
    probabilities: Probabilities,
    costs: Callable[[Genotypes], NDArray[np.float64]],
    rng: np.random.Generator,
    n: int = 32,
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Expected costs `(m,)` of candidates, and by decision the slopes `(options, m)`.

    A slope is the expected cost given that option: the partial derivative of the expectation,
    which is linear in every decision's probabilities. Both are estimated from `n` random
    candidates, the same for all options of all decisions, less what each decision by itself is
    known to change: for costs that are sums over decisions, expectation and differences between
    slopes are exact. Any cost will do: a closed form, a table, a predictor.

    Args:
        space: of the candidates.
        probabilities: by decision.
        costs: `(k, m)` of `(k, d)` canonical rows.
        rng: of the draws.
        n: candidates drawn.
    """
    drawn = drawn_rows(probabilities, n, rng)
    variants = []
    for i, p in enumerate(probabilities):
        for option in range(len(p)):
            rows = drawn.copy()
            rows[:, i] = option
            variants.append(rows)
    found = costs(space.canonical(np.concatenate(variants)))  # (options of all * n, m)
    means = found.reshape(len(variants), n, -1).mean(axis=1)
    slopes = np.split(means, np.cumsum([len(p) for p in probabilities])[:-1])
    left = costs(space.canonical(drawn))
    for i, (p, slope) in enumerate(zip(probabilities, slopes, strict=True)):
        left = left - (slope[drawn[:, i]] - p @ slope)  # a control variate of mean 0
    return left.mean(axis=0), slopes
