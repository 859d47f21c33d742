"""Commands on jobs that exist, in a folder of this machine or on a server.

What loads torch is imported by the commands that need it: it takes a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas import console
from nas.cli.options import (
    Constraints,
    Home,
    JobId,
    Json,
    Server,
    Store,
    existing,
    out,
)
from nas.cli.options import show as shown
from nas.client import Client
from nas.core import JobState, Trial, TrialQuery, TrialState
from nas.core.wire import job_to_json
from nas.front import Front
from nas.workspace import DEFAULT_HOME

FAILED = (TrialState.FAILED,)


class Format(StrEnum):
    """What `export` writes."""

    ONNX = "onnx"
    EXECUTORCH = "executorch"


def list_jobs(
    home: Home = DEFAULT_HOME, store: Store = None, server: Server = None, as_json: Json = False
) -> None:
    """List jobs, newest first."""
    if server is not None:
        with Client(server) as client:
            found = [job.job for job in client.jobs()]
    else:
        found = list(existing(home, store).store.jobs())
    shown([job_to_json(j) for j in found] if as_json else console.jobs_table(found), as_json)


def show(
    job: JobId,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Show one job: its specification, state and trial counts."""
    if server is not None:
        with Client(server) as client:
            found = client.job(job)
            known, counts = found.job, found.counts()
            failed: Sequence[Trial] = found.trials(states=FAILED)
    else:
        workspace = existing(home, store)
        known = workspace.store.job(job)
        log = workspace.store.trial_store(known.job_id)
        counts, failed = log.counts(), log.page(TrialQuery(states=FAILED))
    body = {
        **job_to_json(known),
        "trials": {state.value: n for state, n in counts.items() if n},
        "errors": {trial.number: trial.error for trial in failed},
    }
    shown(body, as_json)


def front(
    job: JobId,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Show a job's Pareto front as it stands now."""
    with _front(job, home, store, server) as found:
        shown([m.card() for m in found] if as_json else console.front_table(found), as_json)


def export(
    job: JobId,
    best: Annotated[
        list[str] | None,
        typer.Option(help="Only the best model that meets this, e.g. 'latency_ms<=0.3'."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", "-o", help="Folder to write to.")] = Path("exported"),
    form: Annotated[
        Format, typer.Option("--format", help="executorch: a program for phones beside it.")
    ] = Format.ONNX,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Export the front, or its best model under constraints: ONNX, PyTorch source, card."""
    with _front(job, home, store, server) as found:
        dataset = None
        if form is Format.EXECUTORCH:
            from nas import mobile

            mobile.require_executorch()
            uploads = existing(home, store).uploads if server is None else None
            dataset = mobile.dataset_of(found.job, uploads)
        written = [found.best(*best).export(to)] if best else found.export(to)
    if dataset is not None:
        for folder in written:
            mobile.add_program(folder, dataset)
    if as_json:
        shown([str(path) for path in written], as_json)
        return
    for path in written:
        out.print(str(path))


def report(
    job: JobId,
    to: Annotated[Path, typer.Option("--to", "-o", help="File to write.")] = Path("report.html"),
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
) -> None:
    """Write a self-contained HTML report of a job."""
    if server is not None:
        with Client(server) as client:
            client.job(job).report(to)
    else:
        from nas.reporting import write_report

        workspace = existing(home, store)
        write_report(workspace, workspace.store.job(job), to)
    out.print(str(to))


def cancel(
    job: JobId, home: Home = DEFAULT_HOME, store: Store = None, server: Server = None
) -> None:
    """Stop a job for good; what it found stays."""
    _ask(job, JobState.CANCELLED, home, store, server)


def pause(
    job: JobId, home: Home = DEFAULT_HOME, store: Store = None, server: Server = None
) -> None:
    """Stop a job until it is resumed."""
    _ask(job, JobState.PAUSED, home, store, server)


def extend(
    job: JobId,
    trials: Annotated[int | None, typer.Option(help="Candidates to train, in all.")] = None,
    finalists: Annotated[int | None, typer.Option(help="Candidates to deploy, in all.")] = None,
    constraint: Constraints = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
) -> None:
    """Give a job more budget or tighter constraints; it goes on without starting over."""
    if server is not None:
        with Client(server) as client:
            client.job(job).extend(trials, finalists, constraint)
        return
    from nas.jobs import extended

    workspace = existing(home, store)
    found = workspace.store.job(job)
    spec = extended(found, trials, finalists, constraint)
    workspace.store.extend(found.job_id, spec.to_json())
    out.print(f"go on with: nas resume {found.job_id} --home {home}")


def delete(
    job: JobId, home: Home = DEFAULT_HOME, store: Store = None, server: Server = None
) -> None:
    """Delete a job that is not running: trials, events and files."""
    if server is not None:
        with Client(server) as client:
            client.job(job).delete()
        return
    workspace = existing(home, store)
    workspace.delete(workspace.store.job(job))


def _ask(job: str, wanted: JobState, home: Path, store: str | None, server: str | None) -> None:
    if server is not None:
        with Client(server) as client:
            found = client.job(job)
            now = (found.cancel() if wanted is JobState.CANCELLED else found.pause()).job
    else:
        jobs = existing(home, store).store
        now = jobs.ask_for(jobs.job(job).job_id, wanted)
    out.print(f"{now.job_id} {now.state if now.wanted is None else f'will be {now.wanted}'}")


@contextmanager
def _front(job: str, home: Path, store: str | None, server: str | None) -> Iterator[Front]:
    if server is None:
        workspace = existing(home, store)
        yield workspace.front(workspace.store.job(job))
        return
    with Client(server) as client:
        yield client.job(job).front()
