"""Jobs in a dictionary."""

from __future__ import annotations

import copy
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from nas.core import (
    AccountStore,
    DeviceStore,
    InvalidInputError,
    Job,
    JobQuery,
    JobState,
    Lease,
    NotFoundError,
    TrialStore,
)
from nas.core.job import ALL_JOBS
from nas.stores import _transitions as transitions
from nas.stores._changing import ChangingStore
from nas.stores._checks import only_match, require_same, require_short
from nas.stores.memory.accounts import MemoryAccountStore
from nas.stores.memory.devices import MemoryDeviceStore
from nas.stores.memory.trials import Log, MemoryTrialStore


class MemoryStore(ChangingStore):
    """Jobs in a dictionary. Safe for threads; gone with the process."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._logs: dict[str, Log] = {}
        self._by_key: dict[tuple[str, str], str] = {}
        self._accounts = MemoryAccountStore()
        self._devices = MemoryDeviceStore()
        self._lock = threading.RLock()

    def create_job(
        self,
        name: str,
        spec: Mapping[str, Any],
        owner: str = "",
        priority: int = 0,
        key: str | None = None,
    ) -> Job:
        """Store a new job in state created; the same owner's same key gives the same job."""
        for field, text in (("name", name), ("owner", owner), ("key", key or "")):
            require_short(field, text)
        with self._lock:
            if key is not None and (owner, key) in self._by_key:
                return require_same(self.job(self._by_key[owner, key]), spec)
            job_id = secrets.token_hex(4)
            kept = copy.deepcopy(dict(spec))
            job = Job(job_id, name, kept, JobState.CREATED, "", time.time(), owner, priority)
            self._jobs[job_id] = job
            self._logs[job_id] = Log()
            if key is not None:
                self._by_key[owner, key] = job_id
            return copy.deepcopy(job)

    def has_key(self, owner: str, key: str) -> bool:
        """Whether a job was stored with that owner's key."""
        with self._lock:
            return (owner, key) in self._by_key

    def job(self, job_id: str) -> Job:
        """One job, by id or by a prefix that fits only one."""
        with self._lock:
            matches = [known for known in self._jobs if job_id and known.startswith(job_id)]
            return copy.deepcopy(self._jobs[only_match(job_id, matches)])

    def jobs(self, query: JobQuery = ALL_JOBS) -> Sequence[Job]:
        """The jobs that `query` asks for, newest first."""
        with self._lock:
            after = None if query.after is None else _place(self._known(query.after))
            ordered = sorted(self._jobs.values(), key=_place, reverse=True)
            found = (
                job
                for job in ordered
                if (not query.states or job.state in query.states)
                and query.owner in (None, job.owner)
                and query.name.lower() in job.name.lower()
                and (after is None or _place(job) < after)
            )
            return copy.deepcopy(list(islice(found, query.limit)))

    def delete_job(self, job_id: str) -> None:
        """Delete a job with its trials and events."""
        with self._lock:
            transitions.require_undriven(self._known(job_id), time.time())
            del self._jobs[job_id], self._logs[job_id]
            self._devices.drop_job(job_id, delete=True)
            self._by_key = {key: of for key, of in self._by_key.items() if of != job_id}

    def trial_store(self, job_id: str, lease: Lease | None = None) -> TrialStore:
        """The trials of one job; with a lease, written only as long as it holds."""
        found = self.job(job_id).job_id
        if lease is not None and lease.job_id != found:
            raise InvalidInputError("lease", lease, f"one of job {found}")

        def admit() -> None:
            job = self._known(found)
            if lease is not None:
                transitions.require_held(job, lease)

        return MemoryTrialStore(self._logs[found], self._lock, admit)

    def accounts(self) -> AccountStore:
        """The tokens."""
        return self._accounts

    def devices(self) -> DeviceStore:
        """The devices and their work."""
        return self._devices

    def _known(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise NotFoundError("job", job_id)
        return self._jobs[job_id]

    def _change(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        with self._lock:
            job = transition(self._known(job_id))
            self._jobs[job_id] = job
            if job.state is JobState.CANCELLED:
                self._logs[job_id].cancel()
                self._devices.drop_job(job_id, delete=False)
            return copy.deepcopy(job)


def _place(job: Job) -> tuple[float, str]:
    return job.created_at, job.job_id
