"""Random search: the baseline everything else must beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import Fidelity, Genotypes, SearchSpace, SearchStrategy, Task, Trial
from nas.strategies._history import Admissible, History


class RandomSearch(SearchStrategy):
    """Uniform over the options of every decision, without repeats.

    Args:
        space: what to sample.
        seed: of all draws.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Bergstra and Bengio 2012.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        self._seed = seed
        self._admissible = admissible
        self._history = History(space, fidelity)

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` tasks; fewer only when the space is exhausted."""
        return self._history.tasks(n, self._seed, self._next)

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs."""
        self._history.recall(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        self._history.tell(trials)

    def _next(
        self, rng: np.random.Generator, _: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        return self._history.random_row(rng, chosen, self._admissible)
