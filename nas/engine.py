"""The loop: ask the strategy, store, run, store, tell. Everything else is behind a seam."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from nas.core import Event, Executor, SearchStrategy, Trial, TrialQuery, TrialState, TrialStore

Listener = Callable[[Event], None]
AT_ONCE = 1000
"""Events read from the store together: a long log does not have to fit in memory."""


class Engine:
    """Drives one job until its strategy has nothing more to ask.

    The store is the truth: every event is stored before the strategy is told, and a new engine
    with a fresh strategy first tells it the stored log, then runs again what was left running.
    So a job goes on after any crash as if nothing had happened, and no trial is lost or doubled.

    Args:
        strategy: fresh; it is told the stored log.
        executor: runs the trials; the caller closes it.
        store: of this job.
        listen: called with every event, stored ones first.
        poll_seconds: longest wait for a result before the loop turns once more.
        check: called once per turn; whatever it raises ends the run.
    """

    def __init__(
        self,
        strategy: SearchStrategy,
        executor: Executor,
        store: TrialStore,
        listen: Listener | None = None,
        poll_seconds: float = 1.0,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._strategy = strategy
        self._executor = executor
        self._store = store
        self._listen = listen
        self._poll_seconds = poll_seconds
        self._check = check
        self._running: set[int] = set()
        self._orphans: deque[Trial] = deque()
        self._last_sequence = 0

    def run(self) -> None:
        """Replay, then search until the strategy is finished.

        Whatever it raises, including KeyboardInterrupt, trials not finished stay running in the
        store and are run again by the next engine.
        """
        self._replay()
        while True:
            if self._check is not None:
                self._check()
            finished = self._fill()
            if not self._running:
                if finished:
                    return
                time.sleep(self._poll_seconds)  # not one worker now
            for trial in self._executor.poll(self._poll_seconds):
                self._store.finish(trial)
                self._running.discard(trial.number)
                self._follow()

    def _replay(self) -> None:
        """Tell the stored log; what was started and not finished is to be run again."""
        self._follow()
        self._orphans.extend(self._store.page(TrialQuery(states=(TrialState.RUNNING,))))

    def _fill(self) -> bool:
        """Submit orphans, then new trials, while the executor has room.

        Returns whether the strategy had nothing to ask, rather than the executor no room.
        """
        while self._executor.capacity() > 0:
            if self._orphans:
                self._submit(self._orphans.popleft())
                continue
            tasks = self._strategy.ask(1)
            if not tasks:
                return True
            trial = self._store.create(tasks[0])
            self._follow()
            self._submit(trial)
        return False

    def _submit(self, trial: Trial) -> None:
        self._executor.submit(trial)
        self._running.add(trial.number)

    def _follow(self) -> None:
        """Tell strategy and listener every event stored since the last time."""
        while True:
            events = self._store.events(self._last_sequence, AT_ONCE)
            for event in events:
                self._strategy.tell([event.trial])
                self._last_sequence = event.sequence
                if self._listen is not None:
                    self._listen(event)
            if len(events) < AT_ONCE:
                return
