"""What the dashboard draws: trials as columns and as pages of a table, thinned where many."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from nas import jobs
from nas.core import (
    Fidelity,
    Goals,
    InvalidInputError,
    Job,
    JobQuery,
    JobState,
    NotFoundError,
    Trial,
    TrialState,
)
from nas.core.trial import DIFFERENTIABLE
from nas.core.wire import job_to_json
from nas.front import Model
from nas.service import table
from nas.service.catalog import learning_schemas
from nas.service.context import Service, User
from nas.service.inspection import analysis_of, layers_of, tau_of
from nas.service.outcomes import Outcomes
from nas.service.schemas import DriverBody, NamedBody, SubmitBody, answers
from nas.service.schemas_views import AnalysisBody, LayerBody, SupernetBody, TableBody, TauBody
from nas.service.security import AnyUser, TheService
from nas.service.views import comparison_of, decisions_of, points_of, summary_of
from nas.spec import JobSpec
from workers.inherited import METHOD as SUPERNET

router = APIRouter(prefix="/v1", tags=["views"])
POLL_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0
WATCHED_JOBS = 100
Text = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=10_000)]


@router.get("/jobs/{job_id}/points", response_model=dict[str, Any])
def points(
    job_id: str,
    request: Request,
    user: AnyUser,
    service: TheService,
    x: Text,
    y: Text,
    color: Text = "",
    limit: Limit = 3000,
) -> Response:
    """Two metrics of completed evaluations; all that were ever on the front, the rest thinned.

    `order` is the place in finish order, from 1; a point is on its fidelity's front while
    `entered` and `order` up to what was shown, until `left`. `color` is a third metric.
    """
    job = service.job(user, job_id)
    make = partial(points_of, x, y, color, limit, service.store.trial_store(job.job_id))
    return service.told(job, ("points", x, y, color, limit), make).to(request)


@router.get("/jobs/{job_id}/decisions", response_model=dict[str, Any])
def decisions(
    job_id: str, request: Request, user: AnyUser, service: TheService, limit: Limit = 500
) -> Response:
    """Decisions and metrics of completed search trials: those ever on the front, others thinned."""
    make = partial(decisions_of, limit)
    return service.told(service.job(user, job_id), ("decisions", limit), make).to(request)


@router.get("/jobs/{job_id}/table", response_model=TableBody)
def trial_table(
    job_id: str,
    user: AnyUser,
    service: TheService,
    sort: Text = "number",
    descending: bool = True,
    state: Annotated[list[TrialState] | None, Query()] = None,
    fidelity: Annotated[list[Fidelity] | None, Query()] = None,
    text: Text = "",
    where: Annotated[list[str] | None, Query(max_length=20)] = None,
    front: bool = False,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> dict[str, Any]:
    """A page of trials, sorted by any metric or decision.

    `where` takes conditions on metrics and decisions (`accuracy>=0.9`, `stage1.width=24`), `text`
    a trial's number, or a part of its candidate's key or error.
    """
    job = service.job(user, job_id)
    wanted = table.Wanted(
        sort, descending, tuple(state or ()), tuple(fidelity or ()), text, tuple(where or ()), front
    )
    trials = service.store.trial_store(job.job_id)
    if wanted.is_plain:
        return table.newest(trials, descending, offset, limit)
    goals = JobSpec.parse(job.spec).goals
    return table.page(trials, service.outcomes(job.job_id), goals, wanted, offset, limit)


@router.get("/jobs/{job_id}/summary")
def summary(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Counts, best feasible values, a small curve of hypervolume, time spent and left, pace.

    `last_event_at` is when a trial last started or finished.
    """
    job = service.job(user, job_id)
    spec, found = JobSpec.parse(job.spec), service.outcomes(job.job_id)
    trials = service.store.trial_store(job.job_id)
    told = found.shared.once(("summary", spec.goals), lambda: summary_of(trials, spec.goals, found))
    last = trials.events(max(trials.last_sequence() - 1, 0), 1)
    asked = spec.budget.trials + spec.budget.finalists
    left, n = max(asked - told["n_evaluated"], 0), len(found) - 1
    return {
        **told,
        "trials": {state.value: n for state, n in trials.counts().items()},
        "asked": asked,
        "left_seconds": told["span_seconds"] / n * left if n > 0 else None,
        "last_event_at": last[0].at if last else None,
    }


@router.get("/jobs/{job_id}/driver", response_model=DriverBody)
def driver(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Where the job's driver is shown, with its logs and tasks."""
    job, launcher = service.job(user, job_id), service.launcher
    return {"page": None if launcher is None else launcher.page(job.job_id)}


@router.get("/compare")
def compare(
    user: AnyUser, service: TheService, job: Annotated[list[str], Query(min_length=1, max_length=8)]
) -> dict[str, Any]:
    """Hypervolume of jobs with the same objectives in one box, over trials and seconds; fronts."""
    compared = [service.job(user, job_id) for job_id in dict.fromkeys(job)]
    specs = [JobSpec.parse(j.spec) for j in compared]
    stores = [service.store.trial_store(j.job_id) for j in compared]
    found = [service.outcomes(j.job_id) for j in compared]
    return comparison_of(compared, specs, stores, found)


@router.get("/jobs/{job_id}/analysis", response_model=AnalysisBody)
def analysis(job_id: str, request: Request, user: AnyUser, service: TheService) -> Response:
    """Importance of decisions, out-of-fold predictions, options that only did harm.

    Of more than 1,000 search trials an even share is looked at.
    """
    job = service.job(user, job_id)

    def make(_: Goals, found: Outcomes) -> dict[str, Any]:
        return analysis_of(service.workspace, job, found)

    return service.told(job, "analysis", make).to(request)


@router.get("/jobs/{job_id}/tau", response_model=TauBody)
def tau(job_id: str, request: Request, user: AnyUser, service: TheService) -> Response:
    """How well the predictor ranks, judged in hindsight among the first trials of several times."""
    job = service.job(user, job_id)

    def make(_: Goals, found: Outcomes) -> dict[str, Any]:
        return tau_of(service.workspace, job, found)

    return service.told(job, "tau", make).to(request)


@router.get("/jobs/{job_id}/learned")
def learned(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """What the last task of a differentiable search learned: `history` and `probabilities`."""
    job = service.job(user, job_id)
    trial = _last_training(service, job, DIFFERENTIABLE)
    if trial is None:
        return {"history": [], "probabilities": {}, "number": None, "metrics": {}, "options": {}}
    space = service.workspace.problem(JobSpec.parse(job.spec)).family.space
    options = {d.name: list(d.options) for d in space.decisions}
    about = {"number": trial.number, "metrics": dict(trial.metrics), "options": options}
    return {**trial.provenance[DIFFERENTIABLE], **about}


@router.get("/jobs/{job_id}/supernet", response_model=SupernetBody)
def supernet(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """The training of shared weights, epoch by epoch, as its last finished task tells it."""
    trial = _last_training(service, service.job(user, job_id), SUPERNET)
    told = {} if trial is None else trial.provenance[SUPERNET]
    return {
        "number": None if trial is None else trial.number,
        "version": told.get("version"),
        "reused_epochs": told.get("reused_epochs", 0),
        "history": told.get("history", []),
    }


@router.get("/jobs/{job_id}/trials/{number}/layers", response_model=list[LayerBody])
def layers(job_id: str, number: int, user: AnyUser, service: TheService) -> list[dict[str, Any]]:
    """The network of a trial's candidate, layer by layer, after pruning."""
    job = service.job(user, job_id)
    return layers_of(service.workspace, job, _trial(service, job, number))


@router.get("/jobs/{job_id}/trials/{number}/card")
def card(job_id: str, number: int, user: AnyUser, service: TheService) -> dict[str, Any]:
    """The model card of a trial's candidate."""
    job = service.job(user, job_id)
    trial = _trial(service, job, number)
    if trial.candidate is None:
        raise InvalidInputError("number", number, "a trial that evaluates a candidate")
    return Model(job, trial, service.workspace.folder(job)).card()


@router.post("/check", status_code=204)
def check(body: SubmitBody, user: AnyUser, service: TheService) -> Response:
    """Whether a job of this specification would be taken: 204, or what is wrong with it.

    Cheaper than a preview: nothing is trained or timed unless a constraint on latency asks for it.
    """
    spec = JobSpec.parse(body.model_dump(mode="json", exclude={"priority"}))
    service.require_allowed(spec)
    jobs.checked(spec, service.executor, service.workspace)
    return Response(status_code=204)


@router.get("/learning", response_model=list[NamedBody])
def learning(user: AnyUser) -> list[dict[str, Any]]:
    """Ways to learn before candidates are tried, with their settings: fields of a job."""
    return learning_schemas()


@router.get("/live", responses=answers("text/event-stream"))
async def live(
    request: Request, user: AnyUser, service: TheService, job: str | None = None
) -> StreamingResponse:
    """Server-sent events: `job` whenever a job, its counts or its log changed; never ends.

    Of one job, or of the newest 100 that the user may see, where only running ones tell
    `last_sequence`; `gone` when one was deleted.
    """
    if job is not None:
        job = (await run_in_threadpool(service.job, user, job)).job_id
    stream = _stream(service, request, user, job)
    return StreamingResponse(stream, media_type="text/event-stream")


async def _stream(
    service: Service, request: Request, user: User, job_id: str | None
) -> AsyncIterator[str]:
    said: dict[str, str] = {}
    quiet = 0.0
    yield ": watching\n\n"
    while not service.closing.is_set() and not await request.is_disconnected():
        seen = await run_in_threadpool(_seen, service, user, job_id)
        news = [(i, text) for i, text in seen.items() if said.get(i) != text]
        for _, text in news:
            yield f"event: job\ndata: {text}\n\n"
        for gone in said.keys() - seen.keys():
            yield f"event: gone\ndata: {json.dumps({'job_id': gone})}\n\n"
        quiet = 0.0 if news else quiet + POLL_SECONDS
        said = seen
        if quiet >= KEEP_ALIVE_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(POLL_SECONDS)


def _seen(service: Service, user: User, job_id: str | None) -> dict[str, str]:
    owner = None if user.is_admin else user.owner
    if job_id is None:
        watched = service.store.jobs(JobQuery(owner=owner, limit=WATCHED_JOBS))
    else:
        try:
            watched = [service.job(user, job_id)]
        except NotFoundError:
            watched = []
    found = {}
    for job in watched:
        grows = job_id is not None or job.state is JobState.RUNNING
        sequence = service.watched(job.job_id).sequence if grows else None
        body = {**job_to_json(job), "last_sequence": sequence}
        found[job.job_id] = json.dumps(body, separators=(",", ":"))
    return found


def _last_training(service: Service, job: Job, method: str) -> Trial | None:
    """The last completed task of shared training that tells of `method`."""
    found = service.outcomes(job.job_id)
    trials = service.store.trial_store(job.job_id)
    for i in np.flatnonzero((found.fidelity < 0) & found.completed)[::-1]:
        trial = trials.trial(int(found.number[i]))
        if method in trial.provenance:
            return trial
    return None


def _trial(service: Service, job: Job, number: int) -> Any:
    if not 0 <= number < 2**31:
        raise InvalidInputError("number", number, "a trial's number")
    return service.store.trial_store(job.job_id).trial(number)
