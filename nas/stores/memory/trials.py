"""The log of one job in a list."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from nas.core import (
    ConflictError,
    Event,
    EventKind,
    NotFoundError,
    Task,
    Trial,
    TrialQuery,
    TrialState,
    TrialStore,
)
from nas.stores._checks import CANCELLED, require_finished


@dataclass
class Log:
    """Events and trials of one job; whoever uses it holds the store's lock."""

    events: list[Event] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def append(self, kind: EventKind, trial: Trial) -> None:
        """One more line."""
        self.events.append(Event(len(self.events) + 1, kind, trial, time.time()))

    def cancel(self) -> None:
        """Fail what runs."""
        for trial in [t for t in self.trials if t.state is TrialState.RUNNING]:
            self.trials[trial.number] = trial.failed(CANCELLED)
            self.append(EventKind.FINISHED, self.trials[trial.number])


class MemoryTrialStore(TrialStore):
    """A view of one job's log. Safe for threads.

    Args:
        log: of the job.
        lock: of the store.
        admit: raises when this view may not write (any more).
    """

    def __init__(self, log: Log, lock: threading.RLock, admit: Callable[[], None]) -> None:
        self._log = log
        self._lock = lock
        self._admit = admit

    def create(self, task: Task) -> Trial:
        """Store a new running trial with the next number, and its started event."""
        with self._lock:
            self._admit()
            trial = Trial(len(self._log.trials), copy.deepcopy(task))
            self._log.trials.append(trial)
            self._log.append(EventKind.STARTED, trial)
            return copy.deepcopy(trial)

    def finish(self, trial: Trial) -> None:
        """Store a completed or failed trial, and its finished event."""
        require_finished(trial)
        with self._lock:
            self._admit()
            stored = self._stored(trial.number)
            if stored.state is not TrialState.RUNNING:
                raise ConflictError(f"trial {trial.number} is already {stored.state}")
            done = copy.deepcopy(replace(trial, task=stored.task))
            self._log.trials[trial.number] = done
            self._log.append(EventKind.FINISHED, done)

    def events(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The log past sequence number `after`, in order, at most `limit` of it."""
        with self._lock:
            return copy.deepcopy(list(islice(self._log.events, max(after, 0), None))[:limit])

    def finished(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The finished events past `after`, without provenance and artifacts."""
        with self._lock:
            news = islice(self._log.events, max(after, 0), None)
            done = islice((e for e in news if e.kind is EventKind.FINISHED), limit)
            return copy.deepcopy(
                [replace(e, trial=replace(e.trial, provenance={}, artifacts={})) for e in done]
            )

    def last_sequence(self) -> int:
        """Sequence number of the newest event; 0 before the first."""
        with self._lock:
            return len(self._log.events)

    def trials(self) -> Sequence[Trial]:
        """Every trial as it stands now, by number."""
        with self._lock:
            return copy.deepcopy(self._log.trials)

    def trial(self, number: int) -> Trial:
        """One trial as it stands now."""
        with self._lock:
            return copy.deepcopy(self._stored(number))

    def page(self, query: TrialQuery) -> Sequence[Trial]:
        """The trials that `query` asks for, as they stand now."""
        with self._lock:
            ordered = reversed(self._log.trials) if query.newest_first else self._log.trials
            found = (trial for trial in ordered if _fits(trial, query))
            return copy.deepcopy(list(islice(found, query.limit)))

    def counts(self) -> Mapping[TrialState, int]:
        """How many trials are in each state."""
        with self._lock:
            states = [trial.state for trial in self._log.trials]
        return {state: states.count(state) for state in TrialState}

    def _stored(self, number: int) -> Trial:
        if not 0 <= number < len(self._log.trials):
            raise NotFoundError("trial", number)
        return self._log.trials[number]


def _fits(trial: Trial, query: TrialQuery) -> bool:
    after = query.after
    if after is not None:
        beyond = trial.number < after if query.newest_first else trial.number > after
        if not beyond:
            return False
    key = trial.candidate.key if trial.candidate else None
    return (
        (query.numbers is None or trial.number in query.numbers)
        and (not query.states or trial.state in query.states)
        and (not query.fidelities or trial.fidelity in query.fidelities)
        and query.candidate_key in (None, key)
    )
