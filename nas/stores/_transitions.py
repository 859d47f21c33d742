"""How a job changes: pure functions that every store applies in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.core import ConflictError, InvalidInputError, Job, JobState, Lease
from nas.stores._checks import require_short

ASKABLE = (JobState.PAUSED, JobState.CANCELLED, None)


def moved(job: Job, state: JobState, message: str) -> Job:
    """`job` in another state."""
    return replace(job, state=state, message=message)


def asked(job: Job, wanted: JobState | None, now: float) -> Job:
    """`job` with a wish for its driver, or in the wanted state where it has none."""
    if wanted not in ASKABLE:
        raise InvalidInputError("wanted", wanted, "paused, cancelled, or none")
    _require_open(job)
    if wanted is None or job.is_driven(now):
        return replace(job, wanted=wanted)
    return replace(_freed(job), state=wanted, message=f"{wanted} on request")


def acquired(job: Job, driver: str, seconds: float, over: int | None, now: float) -> Job:
    """`job` under a new lease."""
    _require_open(job)
    if job.fence != over:
        require_undriven(job, now)
    return replace(
        job,
        state=JobState.RUNNING,
        message="",
        driver=require_short("driver", driver),
        lease_until=now + seconds,
        fence=job.fence + 1,
    )


def renewed(job: Job, lease: Lease, seconds: float, now: float) -> Job:
    """`job` with its lease until later."""
    require_held(job, lease)
    return replace(job, lease_until=now + seconds)


def released(job: Job, lease: Lease, state: JobState, message: str) -> Job:
    """`job` without lease, in its new state."""
    if (job.driver, job.fence, job.state) == (None, lease.fence, state):
        return job
    require_held(job, lease)
    return replace(_freed(job), state=state, message=message)


def extended(job: Job, spec: Mapping[str, Any], now: float) -> Job:
    """`job` with another specification, to be run again."""
    require_undriven(job, now)
    if job.state is JobState.CANCELLED:
        raise ConflictError(f"job {job.job_id} is cancelled; submit a new one")
    return replace(_freed(job), spec=spec, state=JobState.CREATED, message="")


def with_workers(job: Job, n: int | None) -> Job:
    """`job` with another limit of trials at once."""
    if n is not None and n < 0:
        raise InvalidInputError("workers", n, "at least 0, or none for as many as there are")
    return replace(job, workers=n)


def require_held(job: Job, lease: Lease) -> None:
    """Refuse a lease that is stale or ended.

    Raises:
        ConflictError: it is.
    """
    if (job.driver, job.fence) != (lease.driver, lease.fence):
        since = f"{job.driver} drives it" if job.driver else f"it is {job.state}"
        raise ConflictError(f"{lease.driver} no longer drives job {job.job_id}: {since}")


def require_undriven(job: Job, now: float) -> None:
    """Refuse a job that is driven.

    Raises:
        ConflictError: it is.
    """
    if job.is_driven(now):
        raise ConflictError(f"job {job.job_id} is running, driven by {job.driver}")


def _freed(job: Job) -> Job:
    return replace(job, wanted=None, driver=None, lease_until=None)


def _require_open(job: Job) -> None:
    if job.state.is_final:
        raise ConflictError(f"job {job.job_id} is {job.state}")
