"""Regularized (aging) evolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import Fidelity, Genotypes, Goals, SearchSpace
from nas.strategies._crowding import best_first
from nas.strategies._history import TRIES, Admissible
from nas.strategies._stepwise import Stepwise


class RegularizedEvolution(Stepwise):
    """Mutates the best of a random tournament among the youngest completed candidates.

    The population is the last `population` completed trials, so the oldest dies whatever its
    score. With several objectives the tournament's best has the lowest constrained Pareto rank,
    ties broken by crowding distance. Failed trials are never parents.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        population: candidates alive; as many random ones come first.
        sample: size of a tournament.
        mutation: probability that a decision of the winner changes; 0 changes exactly one.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Real et al. 2019, algorithm 1; the paper has one objective and changes one decision
    (`mutation=0`), which is too small a step for searches of tens of trials.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        population: int = 50,
        sample: int = 10,
        mutation: float = 0.2,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._population = population
        self._sample = sample
        self._mutation = mutation

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        history = self._history
        if len(history) and number + history.n_recalled >= self._population:
            parent = self._winner(rng)
            parents = np.repeat(parent[None], TRIES, axis=0)
            children = self._space.mutate(parents, rng, self._mutation)
            first = history.first_new(children, chosen, self._admissible)
            if first is not None:
                return children[first]
        return history.random_row(rng, chosen, self._admissible)

    def _winner(self, rng: np.random.Generator) -> Genotypes:
        """`(d,)` best row of a tournament."""
        alive = self._history.rows(self._population)
        losses, violations = self._history.scores(self._goals, self._population)
        size = min(self._sample, len(alive))
        drawn = rng.choice(len(alive), size, replace=False)
        return np.asarray(alive[drawn[best_first(losses[drawn], violations[drawn])[0]]])
