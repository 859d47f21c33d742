"""Many candidates with little effort, the best of them with more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core import (
    Candidate,
    Evaluate,
    Fidelity,
    Goals,
    InvalidInputError,
    SearchStrategy,
    Task,
    Trial,
    TrialState,
)
from nas.core.goals import columns_of
from nas.strategies._crowding import best_first


class SuccessiveHalving(SearchStrategy):
    """Lets any strategy propose at the lowest effort, and promotes the best to the next.

    Asynchronous: whenever a worker is free, the highest rung that has a candidate among the best
    `1 / reduction` of its completed ones promotes it; if none has, `search` proposes a new one. No
    rung is ever waited for. With several objectives the best are the first by constrained Pareto
    rank, then by crowding distance. `search` is told the lowest rung's results alone.

    Args:
        search: asked for new candidates; its tasks' own effort is replaced.
        goals: by which candidates are promoted.
        fidelity: of the tasks.
        reduction: of the number of candidates, and of effort, from rung to rung.
        rungs: how many; the last one has full effort.

    Raises:
        InvalidInputError: fewer than two rungs, or a reduction below 2.

    Reference: Li et al. 2020 (ASHA), algorithm 2; Schmucker et al. 2021 for several objectives.
    """

    def __init__(
        self,
        search: SearchStrategy,
        goals: Goals,
        fidelity: Fidelity = Fidelity.TRAINED,
        reduction: int = 3,
        rungs: int = 3,
    ) -> None:
        if rungs < 2:
            raise InvalidInputError("rungs", rungs, "at least 2")
        if reduction < 2:
            raise InvalidInputError("reduction", reduction, "at least 2")
        self._search = search
        self._goals = goals
        self._fidelity = fidelity
        self._reduction = reduction
        self._efforts = [float(reduction) ** -k for k in reversed(range(rungs))]
        self._completed: list[list[Trial]] = [[] for _ in range(rungs)]
        self._started: list[set[str]] = [set() for _ in range(rungs)]

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` tasks: promotions first, from the top rung down, then new candidates."""
        tasks: list[Task] = []
        for rung in reversed(range(1, len(self._efforts))):
            waiting = self._promotable(rung - 1)[: n - len(tasks)]
            tasks += [Evaluate(c, self._fidelity, self._efforts[rung]) for c in waiting]
        for task in self._search.ask(n - len(tasks)) if len(tasks) < n else ():
            assert isinstance(task, Evaluate)
            tasks.append(Evaluate(task.candidate, self._fidelity, self._efforts[0]))
        return tasks

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs; `search` learns from them."""
        self._search.recall(trials)

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Take trials of an earlier job as guidance."""
        self._search.learn_from(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            rung = self._rung(trial)
            if rung is None or trial.candidate is None:
                continue
            if trial.state is TrialState.RUNNING:
                self._started[rung].add(trial.candidate.key)
            elif trial.state is TrialState.COMPLETED:
                self._completed[rung].append(trial)
            if rung == 0:
                self._search.tell([trial])

    def _rung(self, trial: Trial) -> int | None:
        if trial.fidelity is not self._fidelity:
            return None
        gaps = np.abs(np.array(self._efforts) - trial.effort)
        return int(gaps.argmin()) if gaps.min() < 1e-9 else None

    def _promotable(self, rung: int) -> list[Candidate]:
        """Candidates among the best of a rung that have not been started above it, best first."""
        done = self._completed[rung]
        n_best = len(done) // self._reduction
        if n_best == 0:
            return []
        columns = columns_of([t.metrics for t in done], self._goals.metrics)
        violations = self._goals.violations(columns, len(done))
        order = best_first(self._goals.losses(columns), violations)[:n_best]
        best = (done[i].candidate for i in order)
        return [c for c in best if c is not None and c.key not in self._started[rung + 1]]
