"""Running the service, and its tokens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from nas import console
from nas.cli.options import (
    Address,
    Executor,
    Home,
    Json,
    Store,
    Workers,
    checked_workers,
    err,
    out,
    show,
)
from nas.core import ClusterLostError, ConflictError, InvalidInputError, JobState, Role
from nas.workspace import DEFAULT_HOME, Workspace, spec_of

DAY = 86_400.0
DRIVABLE = (JobState.CREATED, JobState.RUNNING)
"""Jobs that a server starts drivers for; others wait for somebody to resume them."""
tokens = typer.Typer(help="Tokens of a server's users.", no_args_is_help=True)


def serve(
    home: Home = DEFAULT_HOME,
    store: Store = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine it needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8470,
    ray: Annotated[
        str,
        typer.Option(
            envvar="NAS_RAY",
            help="auto: a Ray cluster here; local: no Ray; or a dashboard, http://head:8265.",
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="CPUs for trials; default: all of this machine.")
    ] = None,
    running_jobs: Annotated[int, typer.Option(help="Jobs driven at once.")] = 4,
    running_per_owner: Annotated[int, typer.Option(help="Of them, of one owner.")] = 4,
    queued_per_owner: Annotated[int, typer.Option(help="Jobs one owner may have waiting.")] = 100,
    supervise: Annotated[
        bool, typer.Option(help="Start jobs; of several servers one is enough.")
    ] = True,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="package.module:Name of your own that jobs may name; repeatable."),
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
) -> None:
    """Serve the HTTP API, and drive the jobs that are submitted to it."""
    from nas.service import Server, ServiceSettings

    settings = ServiceSettings(
        home=home.absolute(),
        store=store,
        host=host,
        port=port,
        ray=ray,
        workers=checked_workers(workers),
        running_jobs=running_jobs,
        running_per_owner=running_per_owner,
        queued_per_owner=queued_per_owner,
        supervise=supervise,
        allowed=tuple(allow or ()),
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    server = Server(settings)
    server.serve(lambda url, ray: err.print(_said(url, ray, home), markup=False))


def _said(url: str, ray: str | None, home: Path) -> str:
    lines = [f"serving {url}  (jobs and models below {home})"]
    if ray is not None:
        lines.append(f"ray     {ray}")
    return "\n".join(lines)


def drive(
    job: str,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    executor: Executor = "local",
    workers: Workers = None,
    address: Address = None,
) -> None:
    """Drive one job of a server to its end; the server starts this."""
    from nas import jobs  # with it comes torch, which takes a second to import
    from nas.reporting import write_report

    workspace = Workspace.open(home, store)
    name: jobs.ExecutorName = "ray" if executor == "ray" else "local"
    problem = workspace.problem(spec_of(workspace.store.job(job)))
    found = workspace.store.job(job)  # anew: it may have been paused while this process started
    if found.state not in DRIVABLE:
        raise ConflictError(f"job {found.job_id} is {found.state}; there is nothing to drive")
    try:
        with console.progress(problem.spec) as listen:
            jobs.run(workspace, found, problem, name, workers, address, listen, say=err.print)
    except (KeyboardInterrupt, ClusterLostError) as ended:
        if workspace.store.job(found.job_id).state is JobState.INTERRUPTED:
            why = str(ended) or "its driver was stopped"
            workspace.store.set_state(found.job_id, JobState.CREATED, why)
        raise
    path = workspace.folder(found) / "report.html"
    write_report(workspace, workspace.store.job(found.job_id), path, problem)


def agent(
    name: Annotated[str, typer.Option(help="Of this device, as jobs name it.")],
    server: Annotated[str, typer.Option(envvar="NAS_SERVER", help="URL.")],
    token: Annotated[str | None, typer.Option(envvar="NAS_TOKEN", help="Of role device.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="For its state; default: ~/.nas-agent/NAME.")
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds a file may take.")] = 600.0,
    memory_limit: Annotated[float | None, typer.Option(help="MiB a file may take.")] = None,
    runtime: Annotated[str, typer.Option(help="That loads the files.")] = "onnxruntime",
    through: Annotated[
        str | None, typer.Option(help='"ssh [options] HOST" or "adb [options]": time there.')
    ] = None,
    remote_python: Annotated[str, typer.Option(help="Of the device, with --through.")] = "python3",
    remote_folder: Annotated[
        str | None, typer.Option(help="On the device, with --through.")
    ] = None,
) -> None:
    """Time files for a server on this device, until stopped; needs neither torch nor Ray."""
    from workers.agent.command import main as run

    given = {
        "--name": name,
        "--server": server,
        "--token": token,
        "--folder": folder,
        "--time-limit": time_limit,
        "--memory-limit": memory_limit,
        "--runtime": runtime,
        "--through": through,
        "--remote-python": remote_python,
        "--remote-folder": remote_folder,
    }
    raise typer.Exit(run([str(x) for pair in given.items() if pair[1] is not None for x in pair]))


@tokens.command()
def create(
    owner: Annotated[str, typer.Argument(help="Whose jobs it may see and change.")],
    name: Annotated[str, typer.Option(help="Of the token, for people.")] = "token",
    role: Annotated[
        str, typer.Option(help="user; admin: everyone's jobs; device: an agent's alone.")
    ] = "user",
    days: Annotated[float | None, typer.Option(help="Until it expires; default: never.")] = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Make a token; its secret is shown this once."""
    if role not in list(Role):
        raise InvalidInputError("role", role, "user, admin or device")
    if days is not None and days <= 0:
        raise InvalidInputError("days", days, "above 0")
    until = None if days is None else time.time() + days * DAY
    accounts = Workspace.open(home, store).store.accounts()
    token, secret = accounts.create_token(name, owner, Role(role), until)
    err.print(f"token   {token.token_id} for {owner} ({role}); the secret is not stored:")
    typer.echo(secret)


@tokens.command("list")
def list_tokens(home: Home = DEFAULT_HOME, store: Store = None, as_json: Json = False) -> None:
    """List tokens, without their secrets."""
    found = Workspace.open(home, store).store.accounts().tokens()
    if as_json:
        show([{**vars(t), "role": t.role.value} for t in found], as_json)
        return
    table = Table("id", "name", "owner", "role", "state", title="Tokens")
    for t in found:
        state = "revoked" if t.revoked_at else "expired" if _is_over(t.expires_at) else "valid"
        table.add_row(t.token_id, t.name, t.owner, t.role.value, state)
    out.print(table)


@tokens.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Its id.")],
    home: Home = DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Make a token useless from now on."""
    Workspace.open(home, store).store.accounts().revoke_token(token)


def _is_over(expires_at: float | None) -> bool:
    return expires_at is not None and expires_at <= time.time()
