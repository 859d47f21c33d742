"""Jobs: submit, list, show, cancel, pause, resume, extend, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from nas import forecast, jobs
from nas.core import Job, JobQuery, JobState
from nas.core.wire import job_to_json
from nas.service.context import Service
from nas.service.schemas import ExtendBody, JobBody, JobDetail, Page, SubmitBody
from nas.service.security import AnyUser, TheService
from nas.spec import JobSpec
from workers.machine import usable_cpus

router = APIRouter(prefix="/v1", tags=["jobs"])
Limit = Annotated[int, Query(ge=1, le=500)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", max_length=200)]


@router.post("/jobs", status_code=201, response_model=JobBody)
def submit(body: SubmitBody, user: AnyUser, service: TheService, key: Key = None) -> dict[str, Any]:
    """Check a specification and queue it; the same idempotency key gives the same job again."""
    return job_to_json(service.submit(user, _spec_of(body), body.priority, key))


@router.post("/preview")
def preview(body: SubmitBody, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Size of the space, cost ranges, feasible share and time, before anything is spent."""
    spec = _spec_of(body)
    service.require_allowed(spec)
    problem = service.workspace.problem(spec)
    return forecast.preview(problem, service.settings.workers or usable_cpus()).to_json()


@router.get("/jobs", response_model=Page[JobBody])
def list_jobs(
    user: AnyUser,
    service: TheService,
    state: Annotated[list[JobState] | None, Query()] = None,
    owner: str | None = None,
    name: str = "",
    after: str | None = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Jobs, newest first; others than admins see their own alone."""
    of = owner if user.is_admin else user.owner
    query = JobQuery(tuple(state or ()), of, name, after, limit)
    found = service.store.jobs(query)
    last = found[-1].job_id if len(found) == limit else None
    return {"items": [job_to_json(job) for job in found], "next": last}


@router.get("/jobs/{job_id}", response_model=JobDetail)
def show(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """One job and its trial counts."""
    return _detail(service, service.job(user, job_id))


@router.post("/jobs/{job_id}/cancel", response_model=JobBody)
def cancel(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Stop a job for good; what it found stays."""
    job = service.job(user, job_id)
    return job_to_json(service.store.ask_for(job.job_id, JobState.CANCELLED))


@router.post("/jobs/{job_id}/pause", response_model=JobBody)
def pause(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Stop a job until it is resumed."""
    job = service.job(user, job_id)
    return job_to_json(service.store.ask_for(job.job_id, JobState.PAUSED))


@router.post("/jobs/{job_id}/resume", response_model=JobBody)
def resume(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Queue a paused, interrupted or failed job again; it goes on where it was."""
    job = service.job(user, job_id)
    if job.state in (JobState.CREATED, JobState.RUNNING):
        return job_to_json(service.store.ask_for(job.job_id, None))
    jobs.require_unfinished(job)
    return job_to_json(service.store.set_state(job.job_id, JobState.CREATED))


@router.post("/jobs/{job_id}/extend", response_model=JobBody)
def extend(job_id: str, body: ExtendBody, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Give a job that is not running more budget or tighter constraints; it goes on from there."""
    job = service.job(user, job_id)
    spec = jobs.extended(job, body.trials, body.finalists, body.constraints)
    jobs.checked(spec, service.executor, service.workspace)
    return job_to_json(service.store.extend(job.job_id, spec.to_json()))


@router.delete("/jobs/{job_id}", status_code=204)
def delete(job_id: str, user: AnyUser, service: TheService) -> Response:
    """Delete a job that is not running: trials, events and files."""
    job = service.job(user, job_id)
    service.workspace.delete(job)
    return Response(status_code=204)


def _spec_of(body: SubmitBody) -> JobSpec:
    return JobSpec.parse(body.model_dump(mode="json", exclude={"priority"}))


def _detail(service: Service, job: Job) -> dict[str, Any]:
    trials = service.store.trial_store(job.job_id)
    counts = {state.value: n for state, n in trials.counts().items()}
    return {**job_to_json(job), "trials": counts, "last_sequence": trials.last_sequence()}
