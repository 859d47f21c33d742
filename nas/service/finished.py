"""The columns of the jobs looked at last, kept up with their logs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.core import Finished, TrialStore

MOST_ROWS = 5_000_000
"""Kept over all jobs; some 60 bytes each."""


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    columns: Finished | None = None

    def __len__(self) -> int:
        return 0 if self.columns is None else len(self.columns)


class FinishedCache:
    """Columns over finished trials by job and metrics; safe for threads.

    Args:
        most_rows: kept; the jobs asked for least lately are forgotten beyond it.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._kept: dict[tuple[str, tuple[str, ...]], _Kept] = {}
        self._lock = threading.Lock()

    def of(self, job_id: str, trials: TrialStore, metrics: Sequence[str]) -> Finished:
        """All finished trials of a job; only news is read from its store, by one thread at once."""
        key = job_id, tuple(metrics)
        with self._lock:
            kept = self._kept.pop(key, None) or _Kept()
            self._kept[key] = kept
        with kept.lock:
            before = kept.columns
            news = trials.finished(metrics, before.last if before else 0)
            columns = news if before is None else before.then(news) if len(news) else before
            kept.columns = columns
        self._forget()
        return columns

    def _forget(self) -> None:
        with self._lock:
            rows = sum(map(len, self._kept.values()))
            for key in list(self._kept)[:-1]:
                if rows <= self._most_rows:
                    return
                rows -= len(self._kept.pop(key))
