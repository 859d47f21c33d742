"""A search whose first candidates the user names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import Evaluate, Fidelity, Genotypes, SearchSpace, SearchStrategy, Task, Trial
from nas.strategies._history import History


class Given(SearchStrategy):
    """Asks for named candidates, each once; then for what `search` asks.

    Args:
        search: goes on after the first candidates; told of all of them.
        space: of the candidates.
        rows: `(n, d)` the candidates, in the order they are asked.
        fidelity: of the tasks.
    """

    def __init__(
        self, search: SearchStrategy, space: SearchSpace, rows: Genotypes, fidelity: Fidelity
    ) -> None:
        self._search = search
        self._space = space
        self._rows = np.asarray(rows, dtype=np.int16).reshape(-1, len(space))
        self._fidelity = fidelity
        self._history = History(space, fidelity)

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` next tasks; [] where nothing is left to try."""
        rows = self._rows[self._history.unseen(self._rows)][:n]
        if not len(rows):
            return self._search.ask(n)
        return [Evaluate(self._space.candidate(row), self._fidelity) for row in rows]

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs."""
        self._history.recall(trials)
        self._search.recall(trials)

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Take trials of an earlier job as guidance."""
        self._search.learn_from(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        self._history.tell(trials)
        self._search.tell(trials)
