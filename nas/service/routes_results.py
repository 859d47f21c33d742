"""What a job has found: trials, front, progress, live events, report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from nas.core import (
    Fidelity,
    InvalidInputError,
    JobState,
    NotFoundError,
    TrialQuery,
    TrialState,
)
from nas.core.wire import event_to_json, job_to_json, trial_to_json
from nas.reporting import write_report
from nas.service.context import Service
from nas.service.schemas import FrontBody, OneTrialBody, Page, ProgressBody, TrialBody, answers
from nas.service.security import AnyUser, TheService
from nas.service.views import front_of, progress_of

router = APIRouter(prefix="/v1", tags=["results"])
POLL_SECONDS = 0.4
KEEP_ALIVE_SECONDS = 5.0
EVENTS_AT_ONCE = 500
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:"
)
"""A report carries its own script, so it runs as a stranger: without this server's cookie."""


@router.get("/jobs/{job_id}/trials", response_model=Page[TrialBody])
def trials(
    job_id: str,
    user: AnyUser,
    service: TheService,
    state: Annotated[list[TrialState] | None, Query()] = None,
    fidelity: Annotated[list[Fidelity] | None, Query()] = None,
    candidate: str | None = None,
    after: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    newest_first: bool = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Trials by number, filtered, a page at a time."""
    query = TrialQuery(
        tuple(state or ()), tuple(fidelity or ()), candidate, after, newest_first, limit
    )
    found = service.trials(user, job_id).page(query)
    last = str(found[-1].number) if len(found) == limit else None
    return {"items": [trial_to_json(trial) for trial in found], "next": last}


@router.get("/jobs/{job_id}/trials/{number}", response_model=OneTrialBody)
def trial(job_id: str, number: int, user: AnyUser, service: TheService) -> dict[str, Any]:
    """One trial, and how each of its metrics came about."""
    if not 0 <= number < 2**31:
        raise InvalidInputError("number", number, "a trial's number")
    found = service.trials(user, job_id).trial(number)
    sources = {
        m: {"kind": found.kind(m), "on": found.source(m).get("on", "")} for m in found.metrics
    }
    return {**trial_to_json(found), "sources": sources}


@router.get("/jobs/{job_id}/front", response_model=FrontBody)
def front(job_id: str, request: Request, user: AnyUser, service: TheService) -> Response:
    """The Pareto front at the most trusted fidelity there is."""
    job = service.job(user, job_id)
    make = partial(front_of, job.job_id, service.store.trial_store(job.job_id))
    return service.told(job, "front", make).to(request)


@router.get("/jobs/{job_id}/progress", response_model=ProgressBody)
def progress(job_id: str, request: Request, user: AnyUser, service: TheService) -> Response:
    """Hypervolume and best values of the search's own trials, over their number and time."""
    return service.told(service.job(user, job_id), "progress", progress_of).to(request)


@router.get("/jobs/{job_id}/events", responses=answers("text/event-stream"))
async def events(
    job_id: str,
    request: Request,
    user: AnyUser,
    service: TheService,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Server-sent events: `started` and `finished` with ids to go on after, and `job`.

    The stream ends when the job is completed, failed, paused or cancelled; reconnecting with
    `Last-Event-ID` misses nothing.
    """
    job = await run_in_threadpool(service.job, user, job_id)
    if last_event_id is not None:
        if not last_event_id.isdigit() or int(last_event_id) > 2**62:
            raise InvalidInputError("Last-Event-ID", last_event_id, "an id of this stream")
        after = int(last_event_id)
    stream = _stream(service, request, job.job_id, after)
    return StreamingResponse(stream, media_type="text/event-stream")


@router.get("/jobs/{job_id}/report", responses=answers("text/html"))
def report(job_id: str, user: AnyUser, service: TheService) -> HTMLResponse:
    """The self-contained HTML report."""
    job = service.job(user, job_id)
    path = service.workspace.folder(job) / "report.html"
    html = write_report(service.workspace, job, path).read_text()
    return HTMLResponse(html, headers={"Content-Security-Policy": REPORT_POLICY})


async def _stream(
    service: Service, request: Request, job_id: str, after: int
) -> AsyncIterator[str]:
    store = await run_in_threadpool(service.store.trial_store, job_id)
    state: JobState | None = None
    quiet = 0.0
    while not service.closing.is_set() and not await request.is_disconnected():
        try:
            seen = await run_in_threadpool(service.watched, job_id)
        except NotFoundError:  # deleted meanwhile
            return
        job, said = seen.job, False
        ended = job.state not in (JobState.CREATED, JobState.RUNNING)
        while seen.sequence > after or ended:
            found = await run_in_threadpool(store.events, after, EVENTS_AT_ONCE)
            for event in found:
                yield _message(event.kind, event_to_json(event), event.sequence)
            said |= bool(found)
            if not found:
                break
            after = found[-1].sequence
        if job.state is not state:
            yield _message("job", job_to_json(job))
            state, said = job.state, True
        if ended:
            return
        quiet = 0.0 if said else quiet + POLL_SECONDS
        if quiet >= KEEP_ALIVE_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)


def _message(kind: str, body: dict[str, Any], identifier: int | None = None) -> str:
    head = f"id: {identifier}\n" if identifier is not None else ""
    return f"{head}event: {kind}\ndata: {json.dumps(body, separators=(',', ':'))}\n\n"
