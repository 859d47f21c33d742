"""A search whose first candidates come from a learned distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    Evaluate,
    Fidelity,
    Genotypes,
    SearchSpace,
    SearchStrategy,
    Task,
    Trial,
)
from nas.core.expectation import drawn_rows
from nas.core.trial import DIFFERENTIABLE
from nas.strategies._history import Admissible, History

N_DRAWN = 4096


class Seeded(SearchStrategy):
    """Asks for candidates of a distribution; then for what `search` asks.

    Of 4,096 drawn candidates the likeliest that are admissible and were never asked; decisions that
    are inactive count as if they had their likeliest option, so that the first has that of every
    decision. Where candidates are wanted that differ, the first of them and then the others as they
    were drawn: the likeliest differ in a decision or two, which is no front of trade-offs. Whoever
    learns the distribution hands it over by `follow`, before the first `ask`.

    Args:
        search: goes on after the first candidates; told of all of them.
        space: of the distribution.
        n_candidates: from the distribution.
        seed: of the draws.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.
        spread: whether candidates are wanted that differ.
    """

    def __init__(
        self,
        search: SearchStrategy,
        space: SearchSpace,
        n_candidates: int,
        seed: int,
        fidelity: Fidelity,
        admissible: Admissible | None = None,
        spread: bool = False,
    ) -> None:
        self._search = search
        self._space = space
        self._n_candidates = n_candidates
        self._seed = seed
        self._fidelity = fidelity
        self._admissible = admissible
        self._spread = spread
        self._history = History(space, fidelity)
        self._offered: Genotypes = np.empty((0, len(space)), dtype=np.int16)

    def follow(self, probabilities: Mapping[str, Sequence[float]]) -> None:
        """Take a distribution: by decision, probabilities of its options."""
        columns: list[NDArray[np.float64]] = [np.array(probabilities[n]) for n in self._space.names]
        raw = drawn_rows(columns, N_DRAWN, np.random.default_rng((self._seed, 11)))
        top = np.array([[p.argmax() for p in columns]], dtype=np.int16)
        raw = np.concatenate([top, raw])
        logs = np.zeros(len(raw))
        rows = self._space.canonical(raw)
        for i, p in enumerate(columns):
            known = np.log(np.maximum(p, 1e-300))
            logs += np.where(rows[:, i] >= 0, known[raw[:, i]], known.max())
        _, first = np.unique(self._space.keys(rows), return_index=True)
        likeliest = first[np.argsort(-logs[first], kind="stable")]
        rows = rows[np.sort(first) if self._spread else likeliest]
        self._offered = rows if self._admissible is None else rows[self._admissible(rows)]

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` next tasks; [] where nothing is left to try."""
        history = self._history
        left = min(self._n_candidates - history.n_started, n)
        if left <= 0:
            return self._search.ask(n)
        rows = self._offered[history.unseen(self._offered)][:left]
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


def handed_over(seeded: Seeded, trial: Trial) -> None:
    """Give the distribution that a finished training reports to `seeded`."""
    found: Mapping[str, Any] = trial.provenance.get(DIFFERENTIABLE, {})
    if "probabilities" in found:
        seeded.follow(found["probabilities"])
