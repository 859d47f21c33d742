"""Local search: climb from the best candidate to a better neighbour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from nas.core import (
    Fidelity,
    Genotypes,
    Goals,
    SearchSpace,
    Trial,
    TrialState,
)
from nas.core.pareto import ranks
from nas.strategies._crowding import best_first
from nas.strategies._history import Admissible
from nas.strategies._stepwise import Stepwise


class LocalSearch(Stepwise):
    """Asks for the best candidate's neighbours, in random order, until one is better.

    A climb begins with `n_initial` random candidates and goes on around the best completed one; as
    soon as a neighbour is better, its own neighbours are next. Where all neighbours have been
    asked, the next climb begins, and goes on around the best of its own. Candidates that are best
    of all climbs come first, so that a late result is followed up. With several objectives the
    best are the constrained Pareto front, tried in order of crowding distance.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        n_initial: random candidates at the start of each climb.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: White et al. 2021 (local search for NAS, the variant that moves on at the first
    improvement; their code starts from the best of 10) and Paquete et al. 2004 (Pareto local
    search). The papers' searches are sequential; here the climb goes on while neighbours run.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        n_initial: int = 10,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._n_initial = n_initial
        self._first = -1
        self._spent: set[int] = set()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            if trial.state is TrialState.RUNNING and trial.fidelity is self._fidelity:
                number = self._history.n_started
                if self._climbing(number) and self._moves(()) is None:
                    self._first = number
            self._history.tell([trial])

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        moves = self._moves(chosen) if self._climbing(number) else None
        if moves is None:
            return self._history.random_row(rng, chosen, self._admissible)
        return np.asarray(moves[rng.integers(len(moves))])

    def _climbing(self, number: int) -> bool:
        """Whether trial `number` comes after the random start of the present climb."""
        history = self._history
        begun = number - self._first if self._first >= 0 else number + history.n_recalled
        return begun >= self._n_initial and max(history.numbers, default=-2) >= self._first

    def _moves(self, chosen: Sequence[Genotypes]) -> Genotypes | None:
        """`(k, d)` neighbours never asked of the first of the best that has any; None: none has."""
        for centre in self._centres():
            key = int(self._space.keys(centre[None])[0])
            if key in self._spent:
                continue
            around = self._space.neighbours(centre)
            if self._admissible is not None and len(around):
                around = around[self._admissible(around)]
            moves = around[self._history.unseen(around, chosen)]
            if len(moves):
                return np.asarray(moves)
            if not len(chosen):
                self._spent.add(key)
        return None

    def _centres(self) -> Iterator[Genotypes]:
        """Best candidates of all climbs, then those of the present one."""
        rows = self._history.rows()
        losses, violations = self._history.scores(self._goals)
        everything = np.arange(len(rows))
        for group in (everything, everything[np.array(self._history.numbers) >= self._first]):
            order = best_first(losses[group], violations[group])
            yield from rows[group[order[ranks(losses[group], violations[group])[order] == 0]]]
