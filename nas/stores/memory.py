"""Jobs and trials in this process alone, for tests and throw-away searches."""

from __future__ import annotations

import copy
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.core import (
    ConflictError,
    Event,
    EventKind,
    Job,
    JobState,
    JobStore,
    NotFoundError,
    Task,
    Trial,
    TrialState,
    TrialStore,
)
from nas.stores._checks import only_match, require_finished


class MemoryTrialStore(TrialStore):
    """The log of one job in a list. Safe for threads."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._trials: list[Trial] = []
        self._lock = threading.Lock()

    def create(self, task: Task) -> Trial:
        """Store a new running trial with the next number, and its started event."""
        with self._lock:
            trial = Trial(len(self._trials), copy.deepcopy(task))
            self._trials.append(trial)
            self._append(EventKind.STARTED, trial)
            return copy.deepcopy(trial)

    def finish(self, trial: Trial) -> None:
        """Store a completed or failed trial, and its finished event."""
        require_finished(trial)
        with self._lock:
            if not 0 <= trial.number < len(self._trials):
                raise NotFoundError("trial", trial.number)
            stored = self._trials[trial.number]
            if stored.state is not TrialState.RUNNING:
                raise ConflictError(f"trial {trial.number} is already {stored.state}")
            done = copy.deepcopy(replace(trial, task=stored.task))
            self._trials[trial.number] = done
            self._append(EventKind.FINISHED, done)

    def events(self, after: int = 0) -> Sequence[Event]:
        """The log past sequence number `after`, in order."""
        with self._lock:
            return copy.deepcopy(self._events[after:])

    def trials(self) -> Sequence[Trial]:
        """Every trial as it stands now, by number."""
        with self._lock:
            return copy.deepcopy(self._trials)

    def _append(self, kind: EventKind, trial: Trial) -> None:
        self._events.append(Event(len(self._events) + 1, kind, trial, time.time()))


class MemoryStore(JobStore):
    """Jobs in a dictionary. Safe for threads; gone with the process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._trials: dict[str, MemoryTrialStore] = {}
        self._lock = threading.Lock()

    def create_job(self, name: str, spec: Mapping[str, Any]) -> Job:
        """Store a new job in state created, with a new id."""
        with self._lock:
            job_id = secrets.token_hex(4)
            job = Job(job_id, name, copy.deepcopy(dict(spec)), JobState.CREATED, "", time.time())
            self._jobs[job_id] = job
            self._trials[job_id] = MemoryTrialStore()
            return copy.deepcopy(job)

    def job(self, job_id: str) -> Job:
        """One job, by id or by a prefix that fits only one."""
        matches = [known for known in self._jobs if job_id and known.startswith(job_id)]
        return copy.deepcopy(self._jobs[only_match(job_id, matches)])

    def jobs(self) -> Sequence[Job]:
        """Every job, newest first."""
        return copy.deepcopy(list(reversed(self._jobs.values())))

    def set_state(self, job_id: str, state: JobState, message: str = "") -> Job:
        """Move a job to `state`."""
        with self._lock:
            if job_id not in self._jobs:
                raise NotFoundError("job", job_id)
            self._jobs[job_id] = replace(self._jobs[job_id], state=state, message=message)
            return copy.deepcopy(self._jobs[job_id])

    def trial_store(self, job_id: str) -> TrialStore:
        """The trials of one job."""
        if job_id not in self._trials:
            raise NotFoundError("job", job_id)
        return self._trials[job_id]
