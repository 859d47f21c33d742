"""Trials in this process, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from nas.core import Evaluator, Executor, Trial
from workers.executors._run import run_trial


class LocalExecutor(Executor):
    """Runs the one submitted trial inside `poll`. An interrupt there leaves it submitted."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._waiting: Trial | None = None
        self._most = 1

    def capacity(self) -> int:
        """1 while nothing is submitted, unless the limit is 0."""
        return 0 if self._waiting else self._most

    def limit(self, n: int | None) -> None:
        """At most one trial at once anyway; none with 0."""
        self._most = 0 if n == 0 else 1

    def submit(self, trial: Trial) -> None:
        """Keep the trial until the next `poll`."""
        assert self._waiting is None, "submit only while there is capacity"
        self._waiting = trial

    def poll(self, timeout: float) -> Sequence[Trial]:
        """Run the submitted trial to its end; `timeout` does not cut it short."""
        if self._waiting is None:
            return []
        done = run_trial(self._waiting, self._evaluator)
        self._waiting = None
        return [done]

    def cancel(self, number: int) -> None:
        """Forget the trial if it has not run yet."""
        if self._waiting is not None and self._waiting.number == number:
            self._waiting = None

    def close(self) -> None:
        """Forget what is submitted."""
        self._waiting = None
