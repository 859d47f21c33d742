"""Commands that start a search, or tell what it would cost.

What loads torch is imported by the commands that need it: it takes a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nas import console
from nas.cli.options import (
    Address,
    Candidates,
    Constraints,
    Data,
    DataLimit,
    Device,
    DifferentiableOption,
    Executor,
    FinalistCount,
    Home,
    JobId,
    Json,
    Objectives,
    Seed,
    Server,
    Space,
    SpaceOption,
    Store,
    SupernetOption,
    TrainingOption,
    Trials,
    Workers,
    checked_workers,
    err,
    out,
    show,
)
from nas.client import Client
from nas.options import parsed, parsed_if_given, read_json
from nas.spec import DEFAULT_OBJECTIVES, DEVICES, JobSpec
from nas.workspace import DEFAULT_HOME, Workspace
from workers.machine import usable_cpus


def search(
    data: Data = "digits",
    data_limit: DataLimit = None,
    space: Space = "mobilenet",
    space_option: SpaceOption = None,
    strategy: Annotated[
        str, typer.Option(help="How candidates are proposed; a wrong name lists them all.")
    ] = "predictor-guided",
    strategy_option: Annotated[
        list[str] | None, typer.Option(help='For example "population=20". Repeatable.')
    ] = None,
    objective: Objectives = None,
    constraint: Constraints = None,
    device: Device = None,
    trials: Trials = 40,
    finalists: FinalistCount = 8,
    training: TrainingOption = None,
    candidate: Candidates = None,
    supernet: SupernetOption = None,
    differentiable: DifferentiableOption = None,
    seed: Seed = 0,
    warm_start: Annotated[
        bool, typer.Option(help="Use what earlier jobs of this store measured.")
    ] = True,
    tables: Annotated[
        bool, typer.Option(help="Build tables of layers for devices that have none, meanwhile.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the job, for people.")] = "search",
    executor: Executor = "ray",
    workers: Workers = None,
    address: Address = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this job instead.")] = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
    detach: Annotated[bool, typer.Option(help="With a server: submit, and do not wait.")] = False,
    as_json: Json = False,
) -> None:
    """Run a search to its Pareto front; Ctrl-C stops it so that it can be resumed."""
    if resume is not None:
        from nas.cli.running import Runner

        Runner(executor, workers, address, as_json).resume(resume, home, store)
        return
    body = {
        "name": name,
        "data": data,
        "data_limit": data_limit,
        "space": {"name": space, "options": parsed("space-option", space_option)},
        "strategy": {"name": strategy, "options": parsed("strategy-option", strategy_option)},
        "objectives": list(objective or DEFAULT_OBJECTIVES),
        "constraints": list(constraint or ()),
        "devices": list(device or DEVICES),
        "budget": {"trials": trials, "finalists": finalists},
        "training": parsed("training", training),
        "candidates": [read_json("candidate", path) for path in candidate or ()],
        "supernet": parsed_if_given("supernet", supernet),
        "differentiable": parsed_if_given("differentiable", differentiable),
        "seed": seed,
        "warm_start": warm_start,
        "tables": tables,
    }
    if server is not None:
        _submit(server, body, detach, as_json)
        return
    from nas.cli.running import Runner

    Runner(executor, workers, address, as_json).start(JobSpec.parse(body), home, store)


def watch(job: JobId, server: Server = None, as_json: Json = False) -> None:
    """Follow a job of a server to its end, and show its front."""
    with Client(server) as client:
        found = client.job(job).wait()
        show([m.card() for m in found] if as_json else console.front_table(found), as_json)


def resume(
    job: JobId,
    executor: Executor = "ray",
    workers: Workers = None,
    address: Address = None,
    home: Home = DEFAULT_HOME,
    store: Store = None,
    server: Server = None,
    as_json: Json = False,
) -> None:
    """Go on with a job that was stopped or paused, failed, or whose process died."""
    if server is not None:
        with Client(server) as client:
            client.job(job).resume()
        return
    from nas.cli.running import Runner

    Runner(executor, workers, address, as_json).resume(job, home, store)


def demo(
    home: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("nas_demo"),
    trials: Trials = 36,
    workers: Workers = None,
    executor: Executor = "ray",
) -> None:
    """A real joint search on scikit-learn's digits, on this machine, in a few minutes."""
    from nas import forecast, jobs
    from nas.cli.running import Runner
    from nas.problem import Problem

    runner = Runner(executor, workers, None, as_json=False)
    problem = Problem.load(
        JobSpec.parse(
            {
                "name": "demo",
                "data": "digits",
                "objectives": ["accuracy:max", "latency_ms:min", "weight_bytes:min"],
                "constraints": ["weight_bytes<=60000"],
                "budget": {"trials": trials, "finalists": 8},
                "training": {"epochs": 8, "deployed_epochs": 4},
            }
        )
    )
    out.print(console.preview_table(forecast.preview(problem, workers or usable_cpus())))
    workspace = Workspace.open(home)
    job = jobs.submit(workspace, problem)
    models = runner.run(workspace, job, problem).export(home / job.job_id / "front")
    out.print(f"models  {home / job.job_id / 'front'}: {len(models)} folders", soft_wrap=True)
    out.print(f"next    nas export {job.job_id} --home {home} --best 'weight_bytes<=15000'")


def preview(
    data: Data = "digits",
    data_limit: DataLimit = None,
    space: Space = "mobilenet",
    space_option: SpaceOption = None,
    objective: Objectives = None,
    constraint: Constraints = None,
    device: Device = None,
    trials: Trials = 40,
    finalists: FinalistCount = 8,
    training: TrainingOption = None,
    supernet: SupernetOption = None,
    differentiable: DifferentiableOption = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Size of the space, cost ranges, feasible share and time, before anything is spent."""
    from nas import forecast
    from nas.problem import Problem

    spec = JobSpec.parse(
        {
            "data": data,
            "data_limit": data_limit,
            "space": {"name": space, "options": parsed("space-option", space_option)},
            "objectives": objective or DEFAULT_OBJECTIVES,
            "constraints": constraint or (),
            "devices": device or DEVICES,
            "budget": {"trials": trials, "finalists": finalists},
            "training": parsed("training", training),
            "supernet": parsed_if_given("supernet", supernet),
            "differentiable": parsed_if_given("differentiable", differentiable),
        }
    )
    n_workers = checked_workers(workers) or usable_cpus()
    found = forecast.preview(Problem.load(spec), n_workers)
    show(found.to_json() if as_json else console.preview_table(found), as_json)


def _submit(server: str, body: dict[str, Any], detach: bool, as_json: bool) -> None:
    """Submit a job to a server, and watch it unless `detach`; Ctrl-C ends the watching alone."""
    with Client(server) as client:
        job = client.submit(**body)
        err.print(f"job     {job.job_id}: {job.job.name}", markup=False)
        if detach:
            typer.echo(job.job_id)
            return
        try:
            found = job.wait()
        except KeyboardInterrupt:
            err.print(f"it goes on; watch it with: nas watch {job.job_id} --server {server}")
            raise
        show([m.card() for m in found] if as_json else console.front_table(found), as_json)
