"""A search with an end: so many trials, then the best ones deployed and measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core import Candidate, Evaluate, Fidelity, Goals, SearchStrategy, Task, Trial, TrialState
from nas.core.goals import columns_of
from nas.core.pareto import covering, ranks


class Finalists(SearchStrategy):
    """Passes on what `search` asks until the budget is spent, then asks for its best, deployed.

    Between the two it waits for running trials. Finalists are the front of the completed trials,
    filled up by the fronts behind it; of a front that does not fit, those that cover it best. Each
    is asked once, failed or not. `search` is not
    told of them. With a larger budget than the log was written with, the search goes on, and the
    finalists of all its trials that are not deployed yet follow.

    Args:
        search: proposes the candidates.
        goals: by which the finalists are chosen.
        n_trials: search trials to start; those of less than full effort count as much less.
        n_finalists: candidates to deploy, at most.
        final_fidelity: what finalists are scored at.
        max_worker_seconds: stop searching when finished trials took this long in sum.
    """

    def __init__(
        self,
        search: SearchStrategy,
        goals: Goals,
        n_trials: int,
        n_finalists: int,
        final_fidelity: Fidelity = Fidelity.DEPLOYED,
        max_worker_seconds: float | None = None,
    ) -> None:
        self._search = search
        self._goals = goals
        self._n_trials = n_trials
        self._n_finalists = n_finalists
        self._final_fidelity = final_fidelity
        self._max_worker_seconds = max_worker_seconds
        self._started = 0.0
        self._n_running = 0
        self._seconds = 0.0
        self._completed: list[Trial] = []
        self._asked: set[str] = set()

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` next tasks; [] while the search's last trials run, and at the end."""
        left = math.ceil(self._n_trials - self._started - 1e-9)
        if self._seconds >= (self._max_worker_seconds or np.inf):
            left = 0
        if left > 0:
            tasks = self._search.ask(min(n, left))
            if tasks:
                return tasks
        if self._n_running:
            return []
        waiting = [c for c in self._chosen() if c.key not in self._asked]
        return [Evaluate(candidate, self._final_fidelity) for candidate in waiting[:n]]

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs; they may become finalists, too."""
        self._completed.extend(
            t for t in trials if t.candidate and t.fidelity is not self._final_fidelity
        )
        self._search.recall(trials)

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Take trials of an earlier job as guidance."""
        self._search.learn_from(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            running = trial.state is TrialState.RUNNING
            if trial.fidelity is self._final_fidelity:
                if running and trial.candidate is not None:
                    self._asked.add(trial.candidate.key)
                continue
            self._started += running * trial.effort
            self._n_running += 1 if running else -1
            self._seconds += trial.seconds
            if trial.scores():
                self._completed.append(trial)
            self._search.tell([trial])

    def _chosen(self) -> Sequence[Candidate]:
        """The finalists, best first: a function of the completed search trials."""
        if not self._completed:
            return []
        columns = columns_of([t.metrics for t in self._completed], self._goals.metrics)
        losses = self._goals.losses(columns)
        violations = self._goals.violations(columns, len(losses))
        best = _best(losses, violations, self._n_finalists)
        return [t.candidate for t in (self._completed[i] for i in best) if t.candidate is not None]


def _best(losses: NDArray[np.float64], violations: NDArray[np.float64], n: int) -> Sequence[int]:
    """Row numbers of the first `n`, rank by rank; see `covering` for the last that is taken.

    Of those that cover as much the best by the first objective goes first.
    """
    rank, chosen = ranks(losses, violations), list[int]()
    for r in range(int(rank.max()) + 1):
        members = np.flatnonzero(rank == r)
        members = members[np.lexsort(losses[members].T[::-1])]  # not by who was done first
        alone = len(members) == 1  # an infeasible one may lack a loss
        order = members if alone else members[covering(losses[members], n - len(chosen))]
        chosen += order.tolist()
        if len(chosen) >= n:
            break
    return chosen[:n]
