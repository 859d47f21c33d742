"""The `nas` command."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nas import console, forecast, jobs
from nas.benchmarks.command import benchmark
from nas.benchmarks.micro import micro_benchmark
from nas.core import InvalidInputError, Job, JobState, NasError, TrialQuery, TrialState
from nas.front import Front
from nas.options import parsed, parsed_if_given
from nas.problem import Problem
from nas.reporting import write_report
from nas.reuse import reuse
from nas.spec import DEFAULT_OBJECTIVES, DEVICES, JobSpec
from workers.machine import usable_cpus

app = typer.Typer(
    help="Search networks over architecture x pruning x quantization, measured as shipped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(benchmark)
app.command()(micro_benchmark)
out, err = Console(), Console(stderr=True)

Home = Annotated[Path, typer.Option(envvar="NAS_HOME", help="Folder for database and models.")]
Store = Annotated[
    str | None, typer.Option(envvar="NAS_STORE", help="Database URL; default: nas.db in HOME.")
]
JobId = Annotated[str, typer.Argument(help="Job id, or the beginning of one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Executor = Annotated[str, typer.Option(help="ray, or local for this process alone.")]
Workers = Annotated[int | None, typer.Option(help="Trials at once; default: one per CPU.")]
Address = Annotated[str | None, typer.Option(help="Ray cluster; default: start one here.")]
Data = Annotated[
    str, typer.Option(help="digits, mnist, an .npz file, or a folder <class>/<image>.")
]
DataLimit = Annotated[int | None, typer.Option(help="Use at most this many images.")]
Space = Annotated[str, typer.Option(help="Family of networks: mobilenet or cells.")]
SpaceOption = Annotated[
    list[str] | None, typer.Option(help='Narrow the space, for example "n_stages=2". Repeatable.')
]
Objectives = Annotated[
    list[str] | None, typer.Option("--objective", help="metric, metric:min or metric:max.")
]
Constraints = Annotated[
    list[str] | None, typer.Option("--constraint", help='For example "weight_bytes<=20000".')
]
Device = Annotated[list[str] | None, typer.Option(help="Where to measure; cpu is this machine's.")]
Trials = Annotated[int, typer.Option(help="Candidates to train.")]
FinalistCount = Annotated[int, typer.Option(help="Candidates to deploy and measure.")]
TrainingOption = Annotated[
    list[str] | None,
    typer.Option(help='Epochs and timed runs, for example "epochs=20". Repeatable.'),
]
SupernetOption = Annotated[
    list[str] | None,
    typer.Option(help='Score by shared weights, for example "epochs=200". Repeatable.'),
]
DifferentiableOption = Annotated[
    list[str] | None,
    typer.Option(help='Learn a distribution first, for example "epochs=60". Repeatable.'),
]
Seed = Annotated[int, typer.Option(help="Of everything random.")]


@app.command()
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
    supernet: SupernetOption = None,
    differentiable: DifferentiableOption = None,
    seed: Seed = 0,
    warm_start: Annotated[
        bool, typer.Option(help="Use what earlier jobs of this store measured.")
    ] = True,
    name: Annotated[str, typer.Option(help="Of the job, for people.")] = "search",
    executor: Executor = "ray",
    workers: Workers = None,
    address: Address = None,
    resume: Annotated[str | None, typer.Option(help="Go on with this job instead.")] = None,
    home: Home = jobs.DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Run a search to its Pareto front; Ctrl-C stops it so that it can be resumed."""
    runner = _Runner(executor, workers, address, as_json)
    if resume is not None:
        runner.resume(resume, home, store)
        return
    spec = JobSpec.parse(
        {
            "name": name,
            "data": data,
            "data_limit": data_limit,
            "space": {"name": space, "options": parsed("space-option", space_option)},
            "strategy": {
                "name": strategy,
                "options": parsed("strategy-option", strategy_option),
            },
            "objectives": objective or DEFAULT_OBJECTIVES,
            "constraints": constraint or (),
            "devices": device or DEVICES,
            "budget": {"trials": trials, "finalists": finalists},
            "training": parsed("training", training),
            "supernet": parsed_if_given("supernet", supernet),
            "differentiable": parsed_if_given("differentiable", differentiable),
            "seed": seed,
            "warm_start": warm_start,
        }
    )
    problem = jobs.checked(spec, runner.executor)
    workspace = jobs.Workspace.open(home, store)
    runner.run(workspace, jobs.submit(workspace, problem), problem, store)


@app.command()
def resume(
    job: JobId,
    executor: Executor = "ray",
    workers: Workers = None,
    address: Address = None,
    home: Home = jobs.DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Go on with a job that was stopped or paused, failed, or whose process died."""
    _Runner(executor, workers, address, as_json).resume(job, home, store)


@app.command()
def demo(
    home: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("nas_demo"),
    trials: Trials = 36,
    workers: Workers = None,
    executor: Executor = "ray",
) -> None:
    """A real joint search on scikit-learn's digits, on this machine, in a few minutes."""
    runner = _Runner(executor, workers, None, as_json=False)
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
    workspace = jobs.Workspace.open(home)
    job = jobs.submit(workspace, problem)
    models = runner.run(workspace, job, problem).export(home / job.job_id / "front")
    out.print(f"models  {home / job.job_id / 'front'}: {len(models)} folders", soft_wrap=True)
    out.print(f"next    nas export {job.job_id} --home {home} --best 'weight_bytes<=15000'")


@app.command()
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
    n_workers = _checked_workers(workers) or usable_cpus()
    found = forecast.preview(Problem.load(spec), n_workers)
    _show(found.to_json() if as_json else console.preview_table(found), as_json)


@app.command("jobs")
def list_jobs(home: Home = jobs.DEFAULT_HOME, store: Store = None, as_json: Json = False) -> None:
    """List jobs, newest first."""
    found = _existing(home, store).store.jobs()
    _show([_job_json(j) for j in found] if as_json else console.jobs_table(found), as_json)


@app.command()
def show(
    job: JobId, home: Home = jobs.DEFAULT_HOME, store: Store = None, as_json: Json = False
) -> None:
    """Show one job: its specification, state and trial counts."""
    workspace = _existing(home, store)
    found = workspace.store.job(job)
    log = workspace.store.trial_store(found.job_id)
    counts = {state.value: n for state, n in log.counts().items() if n}
    failed = log.page(TrialQuery(states=(TrialState.FAILED,)))
    errors = {trial.number: trial.error for trial in failed}
    body = {**_job_json(found), "trials": counts, "errors": errors}
    _show(body, as_json)


@app.command()
def front(
    job: JobId, home: Home = jobs.DEFAULT_HOME, store: Store = None, as_json: Json = False
) -> None:
    """Show a job's Pareto front as it stands now."""
    workspace = _existing(home, store)
    found = workspace.front(workspace.store.job(job))
    _show([m.card() for m in found] if as_json else console.front_table(found), as_json)


@app.command()
def export(
    job: JobId,
    best: Annotated[
        list[str] | None,
        typer.Option(help="Only the best model that meets this, e.g. 'latency_ms<=0.3'."),
    ] = None,
    to: Annotated[Path, typer.Option("--to", "-o", help="Folder to write to.")] = Path("exported"),
    home: Home = jobs.DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Export the front, or its best model under constraints: ONNX, PyTorch source, card."""
    workspace = _existing(home, store)
    found = workspace.front(workspace.store.job(job))
    written = [found.best(*best).export(to)] if best else found.export(to)
    if as_json:
        _show([str(path) for path in written], as_json)
        return
    for path in written:
        out.print(str(path))


@app.command()
def report(
    job: JobId,
    to: Annotated[Path, typer.Option("--to", "-o", help="File to write.")] = Path("report.html"),
    home: Home = jobs.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Write a self-contained HTML report of a job."""
    workspace = _existing(home, store)
    write_report(workspace, workspace.store.job(job), to)
    out.print(str(to))


def main() -> None:
    """Run the command; our errors are one sentence and exit code 2, Ctrl-C is 130."""
    logging.getLogger("nas").addHandler(logging.NullHandler())
    try:
        app(standalone_mode=True)
    except NasError as error:
        err.print(Text.assemble(("error ", "red"), str(error)), soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print("stopped")
        sys.exit(130)


def _checked_workers(workers: int | None) -> int | None:
    if workers is not None and workers < 1:
        raise InvalidInputError("workers", workers, "at least 1")
    return workers


def _existing(home: Path, store: str | None) -> jobs.Workspace:
    if store is None and not (home / "nas.db").is_file():
        raise InvalidInputError("home", str(home), "a folder in which a search was run")
    return jobs.Workspace.open(home, store)


class _Runner:
    """Runs jobs with progress, says how to go on after Ctrl-C, and shows what came out."""

    def __init__(
        self, executor: str, workers: int | None, address: str | None, as_json: bool
    ) -> None:
        if executor not in ("ray", "local"):
            raise InvalidInputError("executor", executor, "ray or local")
        self.executor: jobs.ExecutorName = "local" if executor == "local" else "ray"
        self._workers = _checked_workers(workers)
        self._address = address
        self._as_json = as_json

    def resume(self, job_id: str, home: Path, store: str | None) -> None:
        workspace = _existing(home, store)
        job = jobs.resumable(workspace, job_id)
        self.run(workspace, job, Problem.load(JobSpec.parse(job.spec)), store)

    def run(
        self, workspace: jobs.Workspace, job: Job, problem: Problem, store: str | None = None
    ) -> Front:
        err.print(f"job     {job.job_id}: {job.name}", markup=False)
        known = reuse(workspace.store, job, problem)
        for line in known.said():
            err.print(f"reuses  {line}", markup=False)
        home = os.path.relpath(workspace.home)
        again = f"nas resume {job.job_id} --home {home}" + (f" --store {store}" if store else "")
        try:
            with console.progress(problem.spec) as listen:
                found = jobs.run(
                    workspace,
                    job,
                    problem,
                    self.executor,
                    self._workers,
                    self._address,
                    listen,
                    known,
                    _say,
                )
        except KeyboardInterrupt:
            _say(f"stopped; go on with: {again}")
            raise
        job = workspace.store.job(job.job_id)
        if job.state is JobState.PAUSED:
            _say(f"paused; go on with: {again}")
        path = workspace.folder(job) / "report.html"
        write_report(workspace, job, path, problem, known)
        _show(
            [m.card() for m in found] if self._as_json else console.front_table(found),
            self._as_json,
        )
        err.print(f"report  {os.path.relpath(path)}", soft_wrap=True, markup=False)
        return found


def _say(line: str) -> None:
    err.print(line, soft_wrap=True, markup=False)


def _job_json(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state,
        "message": job.message,
        "created_at": job.created_at,
        "spec": dict(job.spec),
    }


def _show(content: Any, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(content, indent=2))
    elif isinstance(content, dict):
        out.print_json(json.dumps(content))
    else:
        out.print(content)
