"""What the dashboard draws: trials as columns and as pages of a table, thinned where many."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from dashboard.series import hypervolumes
from nas import jobs
from nas.core import (
    Fidelity,
    InvalidInputError,
    Job,
    JobQuery,
    JobState,
    NotFoundError,
    TrialState,
    reference_point,
)
from nas.core.trial import DIFFERENTIABLE
from nas.core.wire import job_to_json
from nas.front import Model
from nas.service import table
from nas.service.catalog import learning_schemas
from nas.service.columns import FIDELITIES, Outcomes
from nas.service.context import Service
from nas.service.inspection import analysis_of, layers_of
from nas.service.schemas import AnalysisBody, LayerBody, NamedBody, SubmitBody, TableBody, answers
from nas.service.security import AnyUser, TheService, User
from nas.service.thinning import evenly, spread, thinned
from nas.spec import JobSpec

router = APIRouter(prefix="/v1", tags=["views"])
POLL_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0
WATCHED_JOBS = 100
N_SPARK = 40
Text = Annotated[str, Query(max_length=200)]
Limit = Annotated[int, Query(ge=1, le=10_000)]


@router.get("/jobs/{job_id}/points")
def points(
    job_id: str, user: AnyUser, service: TheService, x: Text, y: Text, limit: Limit = 3000
) -> dict[str, Any]:
    """Two metrics of completed evaluations; all that were ever on the front, the rest thinned.

    `order` is the place in finish order, from 1; a point is on its fidelity's front while
    `entered` and `order` up to what was shown, until `left`.
    """
    job = service.job(user, job_id)
    goals, found = JobSpec.parse(job.spec).goals, service.outcomes(job.job_id)
    missing = np.full(len(found), np.nan)
    across, up = found.metrics.get(x, missing), found.metrics.get(y, missing)
    entered, left = found.history(goals)
    whole = found.completed & (found.effort == 1.0) & (found.fidelity >= 0)
    there = np.flatnonzero(whole & np.isfinite(across) & np.isfinite(up))
    kept = there[~thinned(across[there], up[there], entered[there], limit)]
    _, violations = found.losses(goals, kept)
    return {
        "sequence": found.sequence,
        "n_finished": len(found),
        "n_points": len(there),
        "metrics": sorted(found.metrics),
        "objectives": [str(o) for o in goals.objectives],
        "constraints": [str(c) for c in goals.constraints],
        "fidelities": {f.value: n for f, n in found.scores.items()},
        "number": found.number[kept].tolist(),
        "order": (kept + 1).tolist(),
        "x": across[kept].tolist(),
        "y": up[kept].tolist(),
        "fidelity": [FIDELITIES[i].value for i in found.fidelity[kept]],
        "feasible": (violations == 0.0).tolist(),
        "entered": entered[kept].tolist(),
        "left": [int(i) + 1 if i < len(found) else None for i in left[kept]],
    }


@router.get("/jobs/{job_id}/decisions")
def decisions(
    job_id: str, user: AnyUser, service: TheService, limit: Limit = 500
) -> dict[str, Any]:
    """Decisions and metrics of completed search trials: those ever on the front, others thinned."""
    job = service.job(user, job_id)
    goals, found = JobSpec.parse(job.spec).goals, service.outcomes(job.job_id)
    at = found.scored(found.searched) if found.searched else np.empty(0, dtype=np.int64)
    entered, left = found.history(goals)
    kept = spread(at, entered, limit)
    names = sorted(found.options, key=_stage)
    ordered = {name: _ordered(found.options[name]) for name in names}
    return {
        "number": found.number[kept].tolist(),
        "front": (entered[kept] & (left[kept] == len(found))).tolist(),
        "metrics": {m: _plain(found.metrics[m][kept]) for m in goals.metrics if m in found.metrics},
        "decisions": [
            {
                "name": name,
                "options": [found.options[name][i] for i in ordered[name]],
                "values": _placed(found.decisions[name][kept], ordered[name]),
            }
            for name in names
        ],
    }


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
    """Counts, best feasible values, a small curve of hypervolume, and time spent and left."""
    job = service.job(user, job_id)
    spec, found = JobSpec.parse(job.spec), service.outcomes(job.job_id)
    counts = service.store.trial_store(job.job_id).counts()
    asked = spec.budget.trials + spec.budget.finalists
    span = float(found.at.max() - found.at.min()) if len(found) else 0.0
    n_evaluated = int((found.fidelity >= 0).sum())
    left = span / (len(found) - 1) * max(asked - n_evaluated, 0) if len(found) > 1 else None
    body: dict[str, Any] = {
        "trials": {state.value: n for state, n in counts.items()},
        "asked": asked,
        "n_evaluated": n_evaluated,
        "span_seconds": span,
        "left_seconds": left,
        "best": {},
        "n_front": 0,
        "fidelity": None,
        "hypervolume": [],
    }
    if found.searched is None:
        return body
    trusted = max(found.scores, key=lambda f: f.rank)
    losses, violations = found.losses(spec.goals, found.scored(trusted))
    able = losses[(violations == 0.0) & np.isfinite(losses).all(axis=1)]
    signs = spec.goals.losses({o.metric: np.ones(1) for o in spec.goals.objectives})[0]
    if len(able):
        best = able.min(axis=0) * signs
        body["best"] = dict(
            zip((o.metric for o in spec.goals.objectives), best.tolist(), strict=True)
        )
    entered, at_end = found.history(spec.goals)
    on = entered & (at_end == len(found)) & (found.fidelity == trusted.rank)
    trace = found.trace(spec.goals)
    body |= {"n_front": int(on.sum()), "fidelity": trusted.value}
    body["hypervolume"] = trace[evenly(len(trace), N_SPARK)].tolist()
    return body


@router.get("/compare")
def compare(
    user: AnyUser, service: TheService, job: Annotated[list[str], Query(min_length=1, max_length=8)]
) -> dict[str, Any]:
    """Hypervolume of jobs with the same objectives in one box, over trials and seconds; fronts.

    The box goes from the best values of all jobs to a tenth beyond the worst.
    """
    compared = [service.job(user, job_id) for job_id in dict.fromkeys(job)]
    specs = [JobSpec.parse(j.spec) for j in compared]
    objectives = specs[0].goals.objectives
    for spec in specs[1:]:
        if spec.goals.objectives != objectives:
            names = ", ".join(map(str, objectives))
            raise InvalidInputError("job", spec.name, f"jobs with the objectives {names}")
    found = [service.outcomes(j.job_id) for j in compared]
    at = [o.scored(o.searched) if o.searched else np.empty(0, dtype=np.int64) for o in found]
    pairs = [o.losses(spec.goals, rows) for o, spec, rows in zip(found, specs, at, strict=True)]
    pooled = np.concatenate([losses for losses, _ in pairs])
    pooled = pooled[np.isfinite(pooled).all(axis=1)]
    box = (reference_point(pooled), pooled.min(axis=0)) if len(pooled) else (None, None)
    traces = [hypervolumes(losses, violations, *box) for losses, violations in pairs]
    return {
        "objectives": [str(o) for o in objectives],
        "jobs": [
            _compared(j, spec, o, rows, trace)
            for j, spec, o, rows, trace in zip(compared, specs, found, at, traces, strict=True)
        ],
    }


@router.get("/jobs/{job_id}/analysis", response_model=AnalysisBody)
def analysis(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Importance of decisions, out-of-fold predictions, options that only did harm.

    Of more than 1,000 search trials an even share is looked at.
    """
    job = service.job(user, job_id)
    return analysis_of(service.workspace, job, service.outcomes(job.job_id))


@router.get("/jobs/{job_id}/learned")
def learned(job_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """What the last task of a differentiable search learned: `history` and `probabilities`."""
    job = service.job(user, job_id)
    found = service.outcomes(job.job_id)
    tasks = np.flatnonzero((found.fidelity < 0) & found.completed)
    trials = service.store.trial_store(job.job_id)
    for i in tasks[::-1]:
        trial = trials.trial(int(found.number[i]))
        if DIFFERENTIABLE in trial.provenance:
            told = trial.provenance[DIFFERENTIABLE]
            space = service.workspace.problem(JobSpec.parse(job.spec)).family.space
            options = {d.name: list(d.options) for d in space.decisions}
            about = {"number": trial.number, "metrics": dict(trial.metrics), "options": options}
            return {**told, **about}
    return {"history": [], "probabilities": {}, "number": None, "metrics": {}, "options": {}}


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
    service.require_source(spec.data)
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


def _trial(service: Service, job: Job, number: int) -> Any:
    if not 0 <= number < 2**31:
        raise InvalidInputError("number", number, "a trial's number")
    return service.store.trial_store(job.job_id).trial(number)


def _compared(
    job: Job, spec: JobSpec, found: Outcomes, at: NDArray[np.int64], trace: NDArray[np.float64]
) -> dict[str, Any]:
    shown = evenly(len(at), 1000)
    entered, left = found.history(spec.goals)
    on = np.flatnonzero(entered & (left == len(found)))
    trusted = max((found.fidelity[i] for i in on), default=-1)
    on = on[found.fidelity[on] == trusted]
    return {
        "job": job_to_json(job),
        "fidelity": found.searched.value if found.searched else None,
        "n": (shown + 1).tolist(),
        "seconds": (found.at[at[shown]] - job.created_at).tolist(),
        "hypervolume": trace[shown].tolist(),
        "front_fidelity": FIDELITIES[trusted].value if trusted >= 0 else None,
        "front": {
            o.metric: _plain(found.metrics[o.metric][on]) for o in spec.goals.objectives if len(on)
        },
        "numbers": found.number[on].tolist(),
    }


def _ordered(options: Any) -> list[int]:
    """Positions of `options`, rising where they are numbers."""
    numbers = all(isinstance(o, (int, float)) for o in options)
    return sorted(range(len(options)), key=lambda i: options[i] if numbers else str(options[i]))


def _placed(codes: NDArray[np.int64], ordered: list[int]) -> list[int]:
    places = np.empty(len(ordered) + 1, dtype=np.int64)
    places[ordered] = np.arange(len(ordered))
    places[-1] = -1
    return places[codes].tolist()


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else v for v in values.tolist()]


def _stage(name: str) -> int:
    """Its number, so that `stage2` comes before `stage10`; 0 for decisions of no stage."""
    match = re.match(r"stage(\d+)\.", name)
    return int(match[1]) if match else 0
