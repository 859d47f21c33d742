"""`nas top`: jobs, cluster and devices of a server, as they are now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nas.cli.options import Home, Server, Store, existing, out
from nas.client import Client, ClientJob, ServerError
from nas.core import InvalidInputError, JobState
from nas.core.trial import MARKS
from nas.workspace import DEFAULT_HOME

ACTIVE = (JobState.RUNNING, JobState.CREATED, JobState.PAUSED)
"""Shown first, in this order; then whatever else is newest."""
MOST_JOBS = 20
STYLES = {
    JobState.RUNNING: "cyan",
    JobState.CREATED: "yellow",
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
}
LEAST_SECONDS = 0.5


@dataclass(frozen=True)
class Frame:
    """What the API told at one time.

    Attributes:
        at: seconds since the epoch.
        url: of the server.
        cluster: where trials run.
        jobs: each with its summary, in the order they are shown.
        devices: those with agents.
    """

    at: float
    url: str
    cluster: Mapping[str, Any]
    jobs: Sequence[tuple[ClientJob, Mapping[str, Any]]]
    devices: Sequence[Mapping[str, Any]]


def top(
    once: Annotated[bool, typer.Option(help="Print one frame and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
) -> None:
    """Watch jobs, cluster and devices of a server, or of a folder of this machine; Ctrl-C ends."""
    if every < LEAST_SECONDS:
        raise InvalidInputError("every", every, f"at least {LEAST_SECONDS} seconds")
    with _client(server, home, store) as client:
        if once:
            out.print(drawn(look(client)))
            return
        try:
            with Live(drawn(look(client)), console=out, screen=True, auto_refresh=False) as live:
                _watch(client, live, every)
        except KeyboardInterrupt:
            return


def look(client: Client) -> Frame:
    """Ask the server how everything is.

    Raises:
        ServerError: it does not answer.
    """
    found = [job for state in ACTIVE for job in client.jobs(state=state.value, limit=MOST_JOBS)]
    known = {job.job_id for job in found}
    found += [job for job in client.jobs(limit=MOST_JOBS) if job.job_id not in known]
    return Frame(
        at=time.time(),
        url=client.url,
        cluster=client.cluster(),
        jobs=[(job, job.summary()) for job in found[:MOST_JOBS]],
        devices=[d for d in client.devices() if d["kind"] == "agent"],
    )


def drawn(frame: Frame, trouble: str = "") -> RenderableType:
    """The frame as tables, and a line of trouble below its title."""
    clock = time.strftime("%H:%M:%S", time.localtime(frame.at))
    lines = [Text.assemble(("nas top", "bold"), f"  {frame.url}  {clock}")]
    if trouble:
        lines.append(Text(trouble, style="red"))
    return Group(*lines, _cluster(frame), _jobs(frame), *_devices(frame))


@contextmanager
def _client(server: str | None, home: Path, store: str | None) -> Iterator[Client]:
    """Of the server, or of one in this process that looks at `home` and starts no job."""
    if server is not None:
        with Client(server) as client:
            yield client
        return
    from nas.service import Server as Own
    from nas.service import ServiceSettings

    existing(home, store)
    settings = ServiceSettings(home.absolute(), store, port=0, supervise=False)
    with Own(settings) as own, Client(own.url) as client:
        yield client


def _watch(client: Client, live: Live, every: float) -> None:
    frame = None
    while True:
        live.refresh()
        time.sleep(every)
        try:
            frame = look(client)
            live.update(drawn(frame))
        except ServerError as error:
            if frame is not None:
                live.update(drawn(frame, f"as it was then: {error}"))


def _cluster(frame: Frame) -> RenderableType:
    told = frame.cluster
    running = sum(summary["trials"].get("running", 0) for _, summary in frame.jobs)
    where = "Ray" if told["executor"] == "ray" else "processes"
    if not told["nodes"]:
        unknown = "nobody here starts jobs" if not told["starts_jobs"] else "no cluster answers"
        return Text(f"{running} trials running; {unknown}", style="dim")
    table = _table(f"{where}: {running} of {told['workers']} workers busy")
    for name in ("node", "CPUs", "GPUs", "memory"):
        table.add_column(name, justify="left" if name == "node" else "right")
    for node in told["nodes"]:
        memory = node["memory_bytes"]
        size = "" if memory is None else f"{memory / 2**30:.1f} GiB"
        table.add_row(escape(node["name"]), str(node["n_cpus"]), str(node["n_gpus"]), size)
    return table


def _jobs(frame: Frame) -> RenderableType:
    if not frame.jobs:
        return Text("No jobs yet: nas search --server URL submits one.", style="dim")
    table = _table("Jobs")
    for name in ("job", "name", "state", "trials", "best", "/ min", "event", "workers"):
        number = name in ("trials", "/ min", "event", "workers")
        least = 8 if name == "name" else None
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(name, justify=justify, no_wrap=least is None, min_width=least)
    for job, told in frame.jobs:
        done, asked = told["n_evaluated"], told["asked"]
        state = job.state if job.job.wanted is None else f"{job.state} -> {job.job.wanted}"
        pace = told["trials_per_minute"] if job.state is JobState.RUNNING else None
        workers = job.job.workers if job.state is JobState.RUNNING else None
        table.add_row(
            job.job_id,
            escape(job.job.name),
            Text(state, style=STYLES.get(job.state, "")),
            f"{done} of {asked}{_failures(told)}",
            "\n".join(f"{m} {_mark(told, m)}{value:.4g}" for m, value in told["best"].items()),
            "" if pace is None else f"{pace:,.1f}",
            "" if told["last_event_at"] is None else _age(frame.at - told["last_event_at"]),
            "" if workers is None else str(workers),
        )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )


def _mark(told: Mapping[str, Any], metric: str) -> str:
    """What stands before a best value that nobody measured."""
    return MARKS.get(told["kinds"].get(metric, ""), "")


def _failures(told: Mapping[str, Any]) -> str:
    n = told["trials"].get("failed", 0)
    return f" ({n} failed)" if n else ""


def _devices(frame: Frame) -> Iterator[RenderableType]:
    if not frame.devices:
        return
    table = _table("Devices")
    for name in ("device", "state", "queue", "done", "last seen", "what"):
        table.add_column(name, justify="right" if name in ("queue", "done") else "left")
    for device in frame.devices:
        state = Text("live", style="green") if device["is_live"] else Text("gone", style="red")
        seen = f"{_age(frame.at - device['last_seen'])} ago"
        counts = (str(device["waiting"]), str(device["done"]))
        table.add_row(device["name"], state, *counts, seen, escape(device["description"]))
    yield table


def _age(seconds: float) -> str:
    """`12 s`, `3 min`, `5 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"
