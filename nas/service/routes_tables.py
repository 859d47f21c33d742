"""Devices' tables of layers: building them, and how that stands."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from nas.core import InvalidInputError
from nas.core.device import LOCAL
from nas.imported_tables import require_no_table
from nas.latency_tables import require_buildable
from nas.service.context import Service
from nas.service.schemas_devices import TableBuildBody, TableRequest
from nas.service.security import AnyUser, TheService
from nas.spec import JobSpec
from nas.table_builds import Build, table_options
from workers.tables import LayerTable

router = APIRouter(prefix="/v1", tags=["devices"])


@router.post("/devices/{name}/table", status_code=202, response_model=TableBuildBody)
def build(name: str, body: TableRequest, user: AnyUser, service: TheService) -> dict[str, Any]:
    """Let a device time a space's layers, those it lacks; asked again meanwhile it is the same."""
    if name == LOCAL:
        raise InvalidInputError("device", name, "one with an agent; build this one where it is")
    require_no_table(service.workspace.home, name, "timed")
    service.store.devices().device(name)
    require_buildable(service.workspace, name, body.candidates, body.files)
    space = body.space.model_dump(mode="json")
    about = {"data": body.data, "data_limit": body.data_limit, "space": space, "seed": body.seed}
    spec = JobSpec.parse({**about, "devices": [name]})
    service.require_allowed(spec)
    service.workspace.problem(spec)
    options = table_options(spec, body.candidates, body.files)
    return _told(service, name, service.tables.start(name, options))


@router.get("/devices/{name}/table", response_model=TableBuildBody)
def table(name: str, user: AnyUser, service: TheService) -> dict[str, Any]:
    """The table of a device, and how building it stands."""
    if name != LOCAL:
        require_no_table(service.workspace.home, name, "timed")
        service.store.devices().device(name)
    return _told(service, name, service.tables.of(name))


def _told(service: Service, name: str, found: Build) -> dict[str, Any]:
    table = LayerTable.read(service.workspace.home, name)
    return {**vars(found), "table": None if table is None else table.summary}
