"""Devices: what there is, and what their agents ask."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from nas.core import Device, DeviceStore, NotFoundError, Profile, Work, WorkState
from nas.core.device import LOCAL
from nas.imported_tables import require_no_table
from nas.service.context import Service, User
from nas.service.errors import ForbiddenError
from nas.service.schemas import OCTETS, answers
from nas.service.schemas_devices import (
    BeatBody,
    CalibrationBody,
    ClaimBody,
    DeviceBody,
    RegisterBody,
    ReportBody,
    WorkBody,
)
from nas.service.security import Admin, AnAgent, AnyUser, TheService
from nas.service.sharing import Answer
from predictors.latency import MIN_LESSONS, HeldOut, held_out
from workers.absent import lessons_of
from workers.imported import ImportedTable, imported_names
from workers.remote import MOST_LESSONS

router = APIRouter(prefix="/v1", tags=["devices"])
LOOK_SECONDS = 0.25
ABOUT_LOCAL = "the processor of the machine that runs the trial, through ONNX Runtime"
Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/devices", response_model=list[DeviceBody])
def devices(user: AnyUser, service: TheService) -> list[dict[str, Any]]:
    """Where latency can be measured, how each device is, and how much waits for it."""
    store = service.store.devices()
    waiting, now = store.waiting(), time.time()
    agents = [_shown(d, waiting.get(d.name, 0), now) for d in store.devices()]
    home = service.workspace.home
    tables = [ImportedTable.read(home, name) for name in imported_names(home)]
    return [_local(), *agents, *(_imported(t) for t in tables if t is not None)]


@router.get("/devices/{name}", response_model=DeviceBody)
def device(name: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """One device."""
    if name == LOCAL:
        return _local()
    if name in imported_names(service.workspace.home):
        table = ImportedTable.read(service.workspace.home, name)
        if table is not None:
            return _imported(table)
    store = service.store.devices()
    return _shown(store.device(name), store.waiting().get(name, 0), time.time())


@router.delete("/devices/{name}", status_code=204)
def forget(name: str, user: Admin, service: TheService) -> Response:
    """Forget a device that is not live; its open work fails."""
    require_no_table(service.workspace.home, name, "forgotten; delete its file")
    service.store.devices().forget(name)
    return Response(status_code=204)


@router.get("/devices/{name}/work", response_model=list[WorkBody])
def work(
    name: str,
    user: Admin,
    service: TheService,
    state: Annotated[list[WorkState] | None, Query()] = None,
    limit: Limit = 50,
) -> list[dict[str, Any]]:
    """Work of a device, newest first."""
    require_no_table(service.workspace.home, name, "timed")
    store = service.store.devices()
    store.device(name)
    return [_told(w) for w in store.works(name, None, tuple(state or ()), limit)]


@router.get("/devices/{name}/calibration", response_model=CalibrationBody)
def calibration(name: str, request: Request, user: AnyUser, service: TheService) -> Response:
    """Latencies of a device as measured, and as predicted from the others; of one's own jobs.

    That is how predictions are made while the device is away. Admins see everyone's.
    """
    require_no_table(service.workspace.home, name, "timed")
    store = service.store.devices()
    done = store.device(name).n_done

    def make() -> Answer:
        works = store.works(name, None, (WorkState.DONE,), MOST_LESSONS)
        own = works if user.is_admin else [w for w in works if _owns(service, user, w)]
        return Answer.of(_calibration(held_out(lessons_of(own))))

    who = None if user.is_admin else user.owner
    return service.shared.once(("calibration", name, done, who), make).to(request)


@router.post("/device-work/{work_id}/cancel", response_model=WorkBody)
def cancel(work_id: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Cancel work that is open; its agent drops it."""
    store = service.store.devices()
    found = store.work(work_id)
    if not user.is_admin:
        service.job(user, found.job_id)  # only who owns its job
    return _told(store.cancel(work_id))


# ---------------------------------------------------------------- agents


@router.post("/devices/{name}/register")
def register(name: str, body: RegisterBody, user: AnAgent, service: TheService) -> dict[str, float]:
    """Speak for a device; another live one of its name is refused, and so is a table's name."""
    require_no_table(service.workspace.home, name, "spoken for; choose another name")
    seconds = service.settings.device_seconds
    service.store.devices().register(name, body.instance, user.owner, body.facts, seconds)
    return {"live_seconds": seconds}


@router.post("/devices/{name}/heartbeat")
def heartbeat(
    name: str, body: BeatBody, user: AnAgent, service: TheService
) -> dict[str, list[str]]:
    """Stay live; of the work named, what is still this agent's."""
    held = _own(service, user, name).beat(
        name, body.instance, service.settings.device_seconds, body.holding
    )
    return {"held": [w.work_id for w in held]}


@router.post("/devices/{name}/claim")
async def claim(
    name: str, body: ClaimBody, request: Request, user: AnAgent, service: TheService
) -> dict[str, Any]:
    """Wait for work, at most `wait` seconds, and take it; `work` is null where there is none."""
    seconds = service.settings.device_seconds
    store = await run_in_threadpool(_own, service, user, name)
    await run_in_threadpool(store.beat, name, body.instance, seconds)
    until = time.monotonic() + body.wait
    while True:
        waiting = await run_in_threadpool(store.waiting)
        if waiting.get(name) and not await request.is_disconnected():
            taken = await run_in_threadpool(store.claim, name, body.instance, seconds)
            if taken is not None:
                return {"work": {**_told(taken), "claim": taken.claim}}
        if time.monotonic() >= until or service.closing.is_set():
            return {"work": None}
        await asyncio.sleep(LOOK_SECONDS)


@router.get(
    "/device-work/{work_id}/file",
    responses=answers(OCTETS),
)
def file(
    work_id: str,
    user: AnAgent,
    service: TheService,
    claim: Annotated[str, Header(alias="X-Claim", max_length=64)],
) -> FileResponse:
    """The file to be timed, for whoever claimed it."""
    found = _claimed(service, user, work_id, claim)
    path = _file(service, found)
    if not path.is_file():
        raise NotFoundError("file of work", work_id)
    return FileResponse(path, media_type=OCTETS, filename=f"{found.digest}.onnx")


@router.post("/device-work/{work_id}/report", response_model=WorkBody)
def report(work_id: str, body: ReportBody, user: AnAgent, service: TheService) -> dict[str, Any]:
    """Sign work off; the same report again is answered the same."""
    profile = None if body.profile is None else Profile.from_json(body.profile).to_json()
    store = _own(service, user, service.store.devices().work(work_id).device)
    done = store.report(work_id, body.claim, profile, body.error)
    open_work = store.works(states=(WorkState.QUEUED, WorkState.CLAIMED))
    if done.digest not in {w.digest for w in open_work}:
        _file(service, done).unlink(missing_ok=True)
    return _told(done)


def _owns(service: Service, user: User, work: Work) -> bool:
    try:
        return service.job(user, work.job_id) is not None
    except NotFoundError:
        return False


def _calibration(found: HeldOut | None) -> dict[str, Any]:
    if found is None:
        empty: dict[str, Any] = {"measured": [], "predicted": [], "std": []}
        return {**empty, "error": None, "tau": None, "needed": MIN_LESSONS}
    return {
        "measured": found.measured.tolist(),
        "predicted": found.predicted.tolist(),
        "std": found.std.tolist(),
        "error": found.error,
        "tau": None if np.isnan(found.tau) else found.tau,
        "needed": MIN_LESSONS,
    }


def _own(service: Service, user: User, name: str) -> DeviceStore:
    """The store, if `user` may speak for that device.

    Raises:
        ForbiddenError: it is another owner's.
    """
    store = service.store.devices()
    if store.device(name).owner != user.owner:
        raise ForbiddenError(f"device {name} belongs to another owner")
    return store


def _claimed(service: Service, user: User, work_id: str, claim: str) -> Work:
    found = service.store.devices().work(work_id)
    _own(service, user, found.device)
    if found.claim != claim or not found.state.is_open:
        raise NotFoundError("work", work_id)
    return found


def _file(service: Service, work: Work) -> Path:
    return service.settings.device_files / f"{work.digest}.onnx"


def _told(work: Work) -> dict[str, Any]:
    return WorkBody(
        **{k: v for k, v in vars(work).items() if k in WorkBody.model_fields}
    ).model_dump()


def _local() -> dict[str, Any]:
    return _without_agent(LOCAL, "local", ABOUT_LOCAL, {})


def _imported(table: ImportedTable) -> dict[str, Any]:
    summary = table.summary
    bits = [" ".join(map(str, summary[name])) for name in ("weight_bits", "input_bits")]
    about = f"imported table of {summary['layers']:,} layers, {bits[0]} by {bits[1]} bits"
    return _without_agent(table.device, "table", about, summary)


def _without_agent(
    name: str, kind: Literal["local", "table"], description: str, facts: dict[str, Any]
) -> dict[str, Any]:
    """A device that is always there, and for which nothing is queued."""
    return DeviceBody(
        name=name,
        kind=kind,
        description=description,
        owner="",
        is_live=True,
        last_seen=None,
        registered_at=None,
        waiting=0,
        done=0,
        facts=facts,
    ).model_dump()


def _shown(device: Device, waiting: int, now: float) -> dict[str, Any]:
    found = device.facts.get("runtimes")
    runtimes = [f"{k} {v}" for k, v in found.items()] if isinstance(found, dict) else []
    return DeviceBody(
        name=device.name,
        kind="agent",
        description=", ".join([str(device.facts.get("processor", "a device")), *runtimes]),
        owner=device.owner,
        is_live=device.is_live(now),
        last_seen=device.last_seen,
        registered_at=device.registered_at,
        waiting=waiting,
        done=device.n_done,
        facts=dict(device.facts),
    ).model_dump()
