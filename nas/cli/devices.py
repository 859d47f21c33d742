"""Devices: what there are, their tables of layers, and those that are nothing but a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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

devices = typer.Typer(help="Devices that jobs may name.", invoke_without_command=True)


@devices.callback()
def list_devices(
    context: typer.Context,
    server: Server = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
) -> None:
    """List devices: health, queue, processor, calibration; and tables that were imported."""
    if context.invoked_subcommand is not None:
        return
    rows: Sequence[Mapping[str, Any]]
    if server is not None:
        with Client(server) as client:
            rows = [d for d in client.devices() if d["kind"] != "local"]
    else:
        rows = _known(Workspace.open(home, store))
    names = ("name", "state", "last seen", "waiting", "processor", "runtime", "reference ms")
    table = Table(*names, title="Devices")
    for row in rows:
        table.add_row(*_cells(row))
    out.print(table)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    facts = row["facts"]
    if row["kind"] == "table":
        about = f"{facts['layers']:,} layers: {', '.join(facts['metrics'])}"
        return row["name"], "table", "", "", about, "", ""
    seen = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["last_seen"]))
    state = "live" if row["is_live"] else "gone"
    kept = facts.get("calibration") or {"runtime": "", "reference_ms": float("nan")}
    about = str(facts.get("processor", ""))
    measured = kept["runtime"], f"{kept['reference_ms']:.4f}"
    return row["name"], state, seen, str(row["waiting"]), about, *measured


def _known(workspace: Workspace) -> list[dict[str, Any]]:
    """Devices of a workspace as a server tells them, in short."""
    from workers.imported import ImportedTable, imported_names  # torch takes a second to import

    devices = workspace.store.devices()
    waiting, now = devices.waiting(), time.time()
    agents = [
        {**vars(d), "kind": "agent", "is_live": d.is_live(now), "waiting": waiting.get(d.name, 0)}
        for d in devices.devices()
    ]
    tables = [ImportedTable.read(workspace.home, n) for n in imported_names(workspace.home)]
    told = [{"name": t.device, "kind": "table", "facts": t.summary} for t in tables if t]
    return [*agents, *told]


@devices.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Of the device, as jobs will name it.")],
    file: Annotated[
        Path, typer.Argument(help="JSON of layers with latency in ms and energy in mJ.")
    ],
    home: Home = DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Import another team's table of layers as a device: jobs sum over it, nothing is timed."""
    from nas.imported_tables import import_table  # torch takes a second to import

    folder = home.absolute()
    is_there = store is not None or (folder / "nas.db").is_file()
    known = Workspace.open(home, store).store.devices().devices() if is_there else []
    summary = import_table(folder, name, file, [device.name for device in known]).summary
    show(summary if as_json else "\n".join(_lines(summary)), as_json)


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """An imported table for people."""
    for key, value in summary.items():
        if key != "errors":
            told = ", ".join(map(str, value)) or "none" if isinstance(value, list) else value
            yield f"{key:<13}{told}"
    yield "error of the interpolation, for the half of the layers it was not fitted to:"
    for metric, kinds in summary["errors"].items():
        for kind, error in kinds.items():
            of = f"{metric}, {kind}:"
            yield f"  {of:<25}{error['median']:.1%} median, {error['p90']:.1%} nine in ten"


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
