"""What a strategy remembers of the events it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core import Evaluate, Fidelity, Genotypes, Goals, SearchSpace, Task, Trial, TrialState
from nas.core.goals import columns_of

Admissible = Callable[[Genotypes], NDArray[np.bool_]]
Propose = Callable[[np.random.Generator, int, Sequence[Genotypes]], Genotypes | None]
"""Row of the trial with a number, given those already chosen before it; None when there is none."""

TRIES = 64
ROUNDS = 20
BATCH = 512
SMALL_SPACE = 20_000


class History:
    """Told trials of one fidelity: which candidates were asked, and how the finished ones did."""

    def __init__(self, space: SearchSpace, fidelity: Fidelity) -> None:
        self._space = space
        self._fidelity = fidelity
        self.n_started = 0
        self.n_finished = 0
        self.n_recalled = 0
        self.keys: set[int] = set()
        self.pending: dict[int, Genotypes] = {}
        self.numbers: list[int] = []
        """Per completed candidate, the trials started before it; -1 where it was recalled."""
        self._started: dict[int, int] = {}
        self._rows: list[Genotypes] = []
        self._metrics: list[dict[str, float]] = []

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs, those of this fidelity."""
        for trial in trials:
            if trial.candidate is not None and trial.fidelity is self._fidelity:
                row = self._space.row(trial.candidate)
                self.keys.add(int(self._space.keys(row[None])[0]))
                self._rows.append(row)
                self._metrics.append(dict(trial.metrics))
                self.numbers.append(-1)
                self.n_recalled += 1

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order; those of another kind or fidelity only count as started."""
        for trial in trials:
            running = trial.state is TrialState.RUNNING
            self.n_started += running
            self.n_finished += not running
            if trial.candidate is None or trial.fidelity is not self._fidelity:
                continue
            if running:
                row = self._space.row(trial.candidate)
                self.keys.add(int(self._space.keys(row[None])[0]))
                self.pending[trial.number] = row
                self._started[trial.number] = self.n_started - 1
                continue
            row, number = self.pending.pop(trial.number), self._started.pop(trial.number)
            if trial.state is TrialState.COMPLETED:
                self._rows.append(row)
                self._metrics.append(dict(trial.metrics))
                self.numbers.append(number)

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, last: int | None = None) -> Genotypes:
        """`(n, d)` completed candidates in finish order, or the last of them."""
        rows = self._rows if last is None else self._rows[-last:]
        return np.stack(rows) if rows else np.empty((0, len(self._space)), dtype=np.int16)

    def columns(
        self, metrics: Sequence[str], last: int | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """`(n,)` column per metric of the same candidates; nan where a trial lacks it."""
        return columns_of(self._metrics if last is None else self._metrics[-last:], metrics)

    def scores(
        self, goals: Goals, last: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(n, m)` losses and `(n,)` violations, infinite where a loss is missing, of the same."""
        columns = self.columns(goals.metrics, last)
        losses = goals.losses(columns)
        known = np.isfinite(losses).all(axis=1)
        return losses, np.where(known, goals.violations(columns, len(losses)), np.inf)

    def tasks(self, n: int, seed: int, propose: Propose) -> list[Task]:
        """At most `n` next tasks, each as if those before it had been told; ends at a None."""
        chosen: list[Genotypes] = []
        while len(chosen) < n:
            number = self.n_started + len(chosen)
            row = propose(np.random.default_rng((seed, number)), number, chosen)
            if row is None:
                break
            chosen.append(row)
        return [Evaluate(self._space.candidate(row), self._fidelity) for row in chosen]

    def unseen(self, rows: Genotypes, chosen: Sequence[Genotypes] = ()) -> NDArray[np.bool_]:
        """`(n,)` whether a row was neither told nor chosen, nor stands earlier in `rows`."""
        keys = self._space.keys(rows)
        mask = np.zeros(len(rows), dtype=np.bool_)
        mask[np.unique(keys, return_index=True)[1]] = True
        new = (key not in self.keys for key in keys.tolist())  # costs nothing per trial told
        mask &= np.fromiter(new, np.bool_, len(keys))
        if len(chosen):
            mask &= ~np.isin(keys, self._space.keys(np.stack(chosen)))
        return mask

    def first_new(
        self, rows: Genotypes, chosen: Sequence[Genotypes], admissible: Admissible | None
    ) -> int | None:
        """Number of the first of `rows` neither told nor chosen, and admissible."""
        usable = self.unseen(rows, chosen)
        if admissible is not None:
            usable &= admissible(rows)
        return int(usable.argmax()) if usable.any() else None

    def near_row(
        self,
        row: Genotypes,
        rng: np.random.Generator,
        chosen: Sequence[Genotypes],
        admissible: Admissible | None,
    ) -> Genotypes | None:
        """`row` itself where it was never told, else one a decision away, else a random one."""
        mutants = self._space.mutate(np.repeat(row[None], TRIES, axis=0), rng)
        rows = np.concatenate([row[None], mutants])
        first = self.first_new(rows, chosen, admissible)
        return self.random_row(rng, chosen, admissible) if first is None else rows[first]

    def random_row(
        self,
        rng: np.random.Generator,
        chosen: Sequence[Genotypes] = (),
        admissible: Admissible | None = None,
    ) -> Genotypes | None:
        """A random row never told and admissible; None when none is found (space exhausted)."""
        sizes = [1, 8, 64] + [BATCH] * ROUNDS
        if self._space.size <= SMALL_SPACE:
            sizes.append(20 * self._space.size)
        for size in sizes:
            rows = self._space.sample(size, rng)
            first = self.first_new(rows, chosen, admissible)
            if first is not None:
                return rows[first]
        return None
