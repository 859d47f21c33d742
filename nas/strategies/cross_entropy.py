"""Cross-entropy method: sample, keep the elite, move the distribution towards it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from nas.core import Fidelity, Genotypes, Goals, SearchSpace
from nas.strategies._crowding import best_first
from nas.strategies._history import TRIES, Admissible
from nas.strategies._stepwise import Stepwise


class CrossEntropy(Stepwise):
    """Samples every decision from a categorical distribution fitted to the best candidates.

    Whenever `population` more trials are completed, the distribution moves by `smoothing` towards
    the option frequencies among the `elite` share of all completed candidates, the best by
    constrained rank and crowding. Candidates with the decision inactive do not count for it.
    Samples mix it with the uniform distribution by `floor`, so that no option dies out.

    With several objectives there is a distribution for each, fitted to the elite that is best in
    this objective relative to its range, and samples are of one at random: a single one would
    gather between the ends of the front.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        population: completed trials between two fits.
        elite: share of the completed candidates that is fitted.
        smoothing: share of the new frequencies in the distribution.
        floor: share of the uniform distribution in samples.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: de Boer et al. 2005, sections 3 and 4: populations of hundreds to thousands, elite
    0.01 to 0.1 of the last one, smoothing 0.4 to 0.9, no floor. Here, for searches of tens of
    trials, the elite is larger and of everything completed, and no candidate is sampled twice.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        population: int = 10,
        elite: float = 0.2,
        smoothing: float = 0.7,
        floor: float = 0.1,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._population = population
        self._elite = elite
        self._smoothing = smoothing
        self._floor = floor
        uniform = [np.full(n, 1.0 / n) for n in space.n_options]
        self._fitted = [list(uniform) for _ in goals.objectives]
        self._n_fitted = 0

    def probabilities(self, objective: int = 0) -> Mapping[str, NDArray[np.float64]]:
        """`(options,)` probabilities by decision name, as sampled for one of the objectives."""
        pairs = zip(self._space.names, self._fitted[objective], strict=True)
        return {name: (1 - self._floor) * p + self._floor / len(p) for name, p in pairs}

    def _next(
        self, rng: np.random.Generator, _: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        if self._n_fitted:
            rows = self._sample(rng)
            first = self._history.first_new(rows, chosen, self._admissible)
            if first is not None:
                return rows[first]
        return self._history.random_row(rng, chosen, self._admissible)

    def _sample(self, rng: np.random.Generator) -> Genotypes:
        """`(TRIES, d)` candidates drawn from the distribution of a random objective."""
        objective = int(rng.integers(len(self._fitted)))
        columns = [
            np.minimum(p.cumsum().searchsorted(rng.random(TRIES), side="right"), len(p) - 1)
            for p in self.probabilities(objective).values()
        ]
        return self._space.canonical(np.stack(columns, axis=1))

    def _follow(self) -> None:
        """Move the distribution when enough trials have been completed since the last time."""
        n = len(self._history)
        if n < self._n_fitted + self._population:
            return
        self._n_fitted = n
        losses, violations = self._history.scores(self._goals)
        best = best_first(losses, violations)[: ceil(self._elite * n)]
        elite, group = self._history.rows()[best], _strength(losses[best])
        for objective, fitted in enumerate(self._fitted):
            rows = elite[group == objective] if (group == objective).any() else elite
            for i, old in enumerate(fitted):
                counts = np.bincount(rows[:, i][rows[:, i] >= 0], minlength=len(old))
                if counts.sum():
                    fitted[i] = old + self._smoothing * (counts / counts.sum() - old)


def _strength(losses: NDArray[np.float64]) -> NDArray[np.int64]:
    """`(n,)` objective in which each of `(n, m)` losses is best, relative to their ranges."""
    low, high = losses.min(axis=0), losses.max(axis=0)
    return ((losses - low) / np.where(high > low, high - low, 1.0)).argmin(axis=1)
