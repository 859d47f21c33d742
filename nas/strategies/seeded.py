"""A search whose first candidates come from a learned distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    Fidelity,
    Genotypes,
    SearchSpace,
    SearchStrategy,
    Task,
    Trial,
    TrialState,
)
from nas.core.expectation import drawn_rows
from nas.core.trial import DIFFERENTIABLE
from nas.strategies._history import Admissible
from nas.strategies.given import Given

N_DRAWN = 4096


class Seeded(Given):
    """Asks for candidates of a distribution; then for what `search` asks.

    Of 4,096 drawn candidates the likeliest that are admissible and were never asked; decisions that
    are inactive count as if they had their likeliest option, so that the first has that of every
    decision. Where candidates are wanted that differ, the first of them and then the others as they
    were drawn: the likeliest differ in a decision or two, which is no front of trade-offs. Whoever
    learns the distribution hands it over by `follow`, before the first `ask`.

    Args:
        search: goes on after the first candidates; told of all of them.
        space: of the distribution.
        n_candidates: from the distribution; others that were asked before do not count.
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
        super().__init__(search, space, np.empty((0, len(space)), dtype=np.int16), fidelity)
        self._n_candidates = n_candidates
        self._seed = seed
        self._admissible = admissible
        self._spread = spread
        self._keys: set[int] = set()
        self._n_asked = 0

    def follow(self, *distributions: Mapping[str, Sequence[float]]) -> None:
        """Take distributions: by decision, probabilities of its options.

        Candidates are asked of each in turn.
        """
        offers = [self._offer(found, i) for i, found in enumerate(distributions)]
        ranks = np.concatenate([np.arange(len(rows)) for rows in offers])
        rows = np.concatenate(offers)[np.argsort(ranks, kind="stable")]
        keys, first = np.unique(self._space.keys(rows), return_index=True)
        self._rows, self._keys = rows[np.sort(first)], set(keys.tolist())

    def _offer(self, found: Mapping[str, Sequence[float]], number: int) -> Genotypes:
        """`(n, d)` admissible rows of one distribution, in the order in which they are asked."""
        columns: list[NDArray[np.float64]] = [np.array(found[n]) for n in self._space.names]
        rng = np.random.default_rng((self._seed, 11, number) if number else (self._seed, 11))
        raw = drawn_rows(columns, N_DRAWN, rng)
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
        return rows if self._admissible is None else rows[self._admissible(rows)]

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` next tasks; [] where nothing is left to try."""
        left = self._n_candidates - self._n_asked
        return super().ask(min(n, left)) if left > 0 else self._search.ask(n)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        super().tell(trials)
        for trial in trials:
            if trial.state is TrialState.RUNNING and trial.candidate is not None:
                row = self._space.row(trial.candidate)
                self._n_asked += int(self._space.keys(row[None])[0]) in self._keys


def handed_over(seeded: Seeded, trial: Trial) -> None:
    """Give `seeded` what a finished training reports: the distribution, or one a trade-off."""
    found: Mapping[str, Any] = trial.provenance.get(DIFFERENTIABLE, {})
    if "probabilities" in found:
        seeded.follow(*found.get("tradeoffs", [found["probabilities"]]))
