"""Columns of the jobs that are looked at: read from the log once, kept where they are large."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from nas.core import TrialStore
from nas.service import kept
from nas.service.outcomes import Growing, Outcomes

BLOCK = 5000
MOST_JOBS = 32


@dataclass
class ColumnCache:
    """The columns of the jobs looked at last; safe for threads.

    Attributes:
        home: of the workspace; each job's columns are kept in its folder.
    """

    home: Path
    _jobs: dict[str, _Followed] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, job_id: str, store: TrialStore) -> Outcomes:
        """The finished trials of a job; only news is read from its store."""
        with self._lock:
            job = self._jobs.pop(job_id, None) or _Followed(self.home / job_id / kept.FILE)
            self._jobs[job_id] = job
            if len(self._jobs) > MOST_JOBS:
                self._jobs.pop(next(iter(self._jobs)))
        return job.update(store)


@dataclass
class _Followed:
    """One job's columns, read as far as its log went.

    Attributes:
        path: where large ones are kept on the disk.
        n_kept: rows there.
    """

    path: Path
    n_kept: int = 0
    columns: Growing = field(default_factory=Growing)
    newest: Outcomes | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, store: TrialStore) -> Outcomes:
        """Read what is new in the log; gives all there is."""
        columns = self.columns
        with self.lock:
            if columns.sequence == 0:
                self.n_kept = kept.take_up(columns, self.path, store)
            while events := store.finished(columns.sequence, BLOCK):
                for event in events:
                    columns.add(event.trial, event.at)
                columns.sequence = events[-1].sequence
                if len(events) < BLOCK:
                    break
            if self.newest is None or self.newest.sequence != columns.sequence:
                self.newest = columns.frozen()
                if kept.is_due(len(columns), self.n_kept):
                    kept.keep(columns, self.path)
                    self.n_kept = len(columns)
            return self.newest
