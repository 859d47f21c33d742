"""What every request needs: workspace, settings, and the checks that routes share."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

from fastapi import Request

from nas import jobs
from nas.core import (
    AccountStore,
    Goals,
    InvalidInputError,
    Job,
    JobQuery,
    JobState,
    JobStore,
    NotFoundError,
    Role,
    TrialStore,
)
from nas.core.importing import is_path
from nas.service.columns import ColumnCache
from nas.service.errors import ForbiddenError, QuotaError
from nas.service.launchers import Launcher
from nas.service.outcomes import Outcomes
from nas.service.settings import ServiceSettings
from nas.service.sharing import Answer, Shared
from nas.spec import JobSpec
from nas.table_builds import TableBuilder
from nas.workspace import Workspace
from workers.datasets import NAMED, UPLOAD

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FRESH_SECONDS = 0.25
MOST_WATCHED = 1000


@dataclass(frozen=True)
class User:
    """Whoever sent a request."""

    owner: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether everyone's jobs are theirs to see and change."""
        return self.role is Role.ADMIN


@dataclass(frozen=True)
class Watched:
    """A job and the number of its last event, as they stood `at` a time of the monotonic clock."""

    job: Job
    sequence: int
    at: float


@dataclass
class Service:
    """One server's state; everything lasting is in the store and in files.

    Attributes:
        settings: how the server runs.
        workspace: whose jobs it serves.
        closing: set when answers should come to their end.
        columns: of the jobs looked at last.
        shared: what was worked out of other things than jobs.
        tables: builds devices' tables of layers.
        launcher: starts drivers; None where another server does.
        dashboard: URL of Ray's, where it drives jobs on Ray.
    """

    settings: ServiceSettings
    workspace: Workspace
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    columns: ColumnCache = field(init=False)
    shared: Shared = field(default_factory=Shared)
    tables: TableBuilder = field(init=False)
    launcher: Launcher | None = None
    dashboard: str | None = None
    _watched: dict[str, Watched] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.columns = ColumnCache(self.workspace.home)
        self.tables = TableBuilder(self.workspace.home, self.workspace.store_url)

    @property
    def store(self) -> JobStore:
        """Of jobs and trials."""
        return self.workspace.store

    @property
    def accounts(self) -> AccountStore:
        """Of tokens."""
        return self.store.accounts()

    @property
    def needs_token(self) -> bool:
        """Whether requests without a token are refused."""
        return not self.settings.is_loopback or self.accounts.has_tokens()

    def require_own_origin(self, origin: str) -> None:
        """Refuse what a foreign web page sends through a browser on this machine.

        Raises:
            ForbiddenError: the page is not this server's.
        """
        host = urlsplit(origin).hostname
        if host not in (self.settings.host, *LOOPBACK):
            raise ForbiddenError(f"requests from pages of {origin}")

    def job(self, user: User, job_id: str) -> Job:
        """A job that `user` may see.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        job = self.store.job(job_id)
        if not user.is_admin and job.owner != user.owner:
            raise NotFoundError("job", job_id)
        return job

    def trials(self, user: User, job_id: str) -> TrialStore:
        """The trials of a job that `user` may see."""
        return self.store.trial_store(self.job(user, job_id).job_id)

    def submit(self, user: User, spec: JobSpec, priority: int, key: str | None) -> Job:
        """Check a specification through and through, and store it as a job.

        Raises:
            InvalidInputError: anything that would go wrong later and can be known now.
            QuotaError: too many jobs of this owner are waiting.
            ConflictError: the idempotency key was used for another specification.
        """
        if key is None or not self.store.has_key(user.owner, key):  # a repeated one costs nothing
            self._require_room(user)
            self.require_allowed(spec)
            jobs.checked(spec, self.executor, self.workspace)
        return self.store.create_job(spec.name, spec.to_json(), user.owner, priority, key)

    @property
    def executor(self) -> jobs.ExecutorName:
        """What runs the trials of this server's jobs."""
        return "local" if self.settings.ray == "local" else "ray"

    def _require_room(self, user: User) -> None:
        most = self.settings.queued_per_owner
        waiting = JobQuery(states=(JobState.CREATED,), owner=user.owner, limit=most)
        if len(self.store.jobs(waiting)) >= most:
            raise QuotaError(f"{most} jobs are waiting already; cancel some, or wait")

    def require_allowed(self, spec: JobSpec) -> None:
        """Refuse data by path, and code that whoever runs this server did not allow.

        Raises:
            InvalidInputError: data that is neither a name nor an upload, or a path of code.
        """
        predictor = str(spec.strategy.options.get("predictor", ""))
        code = {"space": spec.space.name, "strategy": spec.strategy.name, "predictor": predictor}
        for given, name in code.items():
            if is_path(name) and name not in self.settings.allowed:
                allowed = ", ".join(self.settings.allowed) or "none is"
                raise InvalidInputError(
                    given, name, f"a name, or a path that `nas serve --allow` names ({allowed})"
                )
        source = spec.data
        if source not in ("digits", *NAMED) and not source.startswith(UPLOAD):
            names = ", ".join(("digits", *NAMED))
            raise InvalidInputError("data", source, f"{names}, or an uploaded data set")

    def watched(self, job_id: str) -> Watched:
        """How a job stands, at most a quarter of a second old: many may watch one job."""
        now = time.monotonic()
        with self._lock:
            known = self._watched.get(job_id)
            if known is not None and now - known.at < FRESH_SECONDS:
                return known
            if known is not None:  # others take it while this thread asks anew
                self._watched[job_id] = replace(known, at=now)
        job = self.store.job(job_id)  # before its log, which is then complete if the job is over
        found = Watched(job, self.store.trial_store(job_id).last_sequence(), now)
        with self._lock:
            self._watched.pop(job_id, None)
            self._watched[job_id] = found
            if len(self._watched) > MOST_WATCHED:
                del self._watched[next(iter(self._watched))]
        return found

    def outcomes(self, job_id: str) -> Outcomes:
        """Columns over a job's finished trials."""
        return self.columns.of(job_id, self.store.trial_store(job_id))

    def told(self, job: Job, what: Hashable, make: Callable[[Goals, Outcomes], Any]) -> Answer:
        """What `make` tells of a job's finished trials, worked out once until one more finishes."""
        goals, found = JobSpec.parse(job.spec).goals, self.outcomes(job.job_id)
        return found.shared.once((what, goals), lambda: Answer.of(make(goals, found)))


def service_of(request: Request) -> Service:
    """The service that the request's app belongs to."""
    return cast(Service, request.app.state.service)
