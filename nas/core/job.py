"""A job as the store knows it: its specification is opaque JSON here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nas.core.errors import InvalidInputError


class JobState(StrEnum):
    """Where a job stands."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing goes on from here; paused, interrupted and failed jobs can be resumed."""
        return self in (JobState.COMPLETED, JobState.CANCELLED)


@dataclass(frozen=True)
class Job:
    """One search a user submitted.

    Attributes:
        job_id: opaque and unique in its store.
        name: for people, not unique.
        spec: the specification as validated JSON; only `JobStore.extend` changes it.
        state: where it stands.
        message: why it stands there, for people.
        created_at: seconds since the epoch.
        owner: who submitted it; "" where nobody logs in.
        priority: larger first.
        wanted: paused or cancelled: what its driver is asked to make of it.
        workers: trials it may run at once now; None for as many as there are.
        driver: who holds its lease.
        lease_until: seconds since the epoch; None when nobody holds it.
        fence: how often a driver has taken it.
    """

    job_id: str
    name: str
    spec: Mapping[str, Any]
    state: JobState
    message: str
    created_at: float
    owner: str = ""
    priority: int = 0
    wanted: JobState | None = None
    workers: int | None = None
    driver: str | None = None
    lease_until: float | None = None
    fence: int = 0

    def is_driven(self, now: float) -> bool:
        """Whether somebody's lease is alive at `now`, seconds since the epoch."""
        return self.lease_until is not None and self.lease_until > now


@dataclass(frozen=True)
class Lease:
    """The right to drive a job, until it is released or somebody else takes the job.

    Attributes:
        job_id: of the job.
        driver: who holds it.
        fence: the job's when it was taken; a larger one there means that this lease is stale.
    """

    job_id: str
    driver: str
    fence: int


@dataclass(frozen=True)
class JobQuery:
    """Which jobs to list; all by default.

    Attributes:
        states: in one of these; () for any.
        owner: submitted by; None for anyone.
        name: contained in the job's name, whatever the case (beyond ASCII, as far as the
            database's locale knows it).
        after: id of the last job of the page before.
        limit: at most so many.

    Raises:
        InvalidInputError: a limit below 1.
    """

    states: tuple[JobState, ...] = ()
    owner: str | None = None
    name: str = ""
    after: str | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InvalidInputError("limit", self.limit, "at least 1")


ALL_JOBS = JobQuery()
