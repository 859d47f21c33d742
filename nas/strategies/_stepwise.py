"""Strategies that propose one candidate at a time from the history of those before it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from nas.core import Fidelity, Genotypes, SearchSpace, SearchStrategy, Task, Trial
from nas.strategies._history import Admissible, History


class Stepwise(SearchStrategy):
    """Asks for candidates of one fidelity, each as if those before it had been told. Abstract.

    Args:
        space: what to search.
        seed: of all draws.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.
    """

    def __init__(
        self, space: SearchSpace, seed: int, fidelity: Fidelity, admissible: Admissible | None
    ) -> None:
        self._space = space
        self._seed = seed
        self._fidelity = fidelity
        self._admissible = admissible
        self._history = History(space, fidelity)

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` tasks; fewer only when the space is exhausted."""
        return self._history.tasks(n, self._seed, self._next)

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs."""
        for trial in trials:
            self._history.recall([trial])
            self._follow()

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            self._history.tell([trial])
            self._follow()

    def _follow(self) -> None:
        """Bring what is derived from the history up to it; called after every trial."""

    @abstractmethod
    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        """`(d,)` row of trial `number` after those `chosen` with it; None when there is none."""
