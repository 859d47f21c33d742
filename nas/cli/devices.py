"""Devices: what there are, and their tables of layers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from nas.cli.options import (
    Data,
    DataLimit,
    Home,
    Json,
    Seed,
    Server,
    Space,
    SpaceOption,
    Store,
    err,
    out,
    show,
)
from nas.client import Client
from nas.options import parsed
from nas.spec import JobSpec
from nas.table_builds import N_CANDIDATES, N_FILES
from nas.workspace import DEFAULT_HOME, Workspace

devices = typer.Typer(help="Devices that time files.", invoke_without_command=True)


@devices.callback()
def list_devices(
    context: typer.Context,
    server: Server = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
) -> None:
    """List the devices that registered themselves: health, queue, processor, calibration."""
    if context.invoked_subcommand is not None:
        return
    if server is not None:
        with Client(server) as client:
            rows = [d for d in client.devices() if d["kind"] == "agent"]
    else:
        known = Workspace.open(home, store).store.devices()
        waiting, now = known.waiting(), time.time()
        rows = [
            {**vars(d), "is_live": d.is_live(now), "waiting": waiting.get(d.name, 0)}
            for d in known.devices()
        ]
    names = ("name", "state", "last seen", "waiting", "processor", "runtime", "reference ms")
    table = Table(*names, title="Devices")
    for row in rows:
        seen = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["last_seen"]))
        state = "live" if row["is_live"] else "gone"
        facts = row["facts"]
        kept = facts.get("calibration") or {"runtime": "", "reference_ms": float("nan")}
        about = str(facts.get("processor", "")), kept["runtime"], f"{kept['reference_ms']:.4f}"
        table.add_row(row["name"], state, seen, str(row["waiting"]), *about)
    out.print(table)


@devices.command()
def table(
    name: Annotated[str, typer.Argument(help="Of the device; cpu is this machine.")],
    data: Data = "digits",
    data_limit: DataLimit = None,
    space: Space = "mobilenet",
    space_option: SpaceOption = None,
    candidates: Annotated[int, typer.Option(help="Looked at for layers.")] = N_CANDIDATES,
    files: Annotated[int, typer.Option(help="Of them, timed as a whole, for the error.")] = N_FILES,
    seed: Seed = 0,
    server: Server = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Time a space's layers on a device, those it lacks; later jobs predict from the table."""
    about: dict[str, Any] = {
        "data": data,
        "data_limit": data_limit,
        "space": {"name": space, "options": parsed("space-option", space_option)},
        "seed": seed,
    }
    if server is not None:
        with Client(server) as client:
            summary = client.build_table(name, _say, candidates=candidates, files=files, **about)
    else:
        summary = _built_here(name, about, candidates, files, Workspace.open(home, store))
    lines = "\n".join(f"{key:<13}{value}" for key, value in summary.items())
    show(summary if as_json else lines, as_json)


def _built_here(
    name: str, about: dict[str, Any], candidates: int, files: int, workspace: Workspace
) -> Mapping[str, Any]:
    from nas.jobs import terminable  # with it comes torch, which takes a second to import
    from nas.latency_tables import build_table

    problem = workspace.problem(JobSpec.parse(about))
    with terminable():
        found = build_table(
            workspace, name, problem.family, candidates, files, problem.spec.seed, _say
        )
    return found.summary


def _say(line: str) -> None:
    err.print(line, soft_wrap=True, markup=False, highlight=False)
