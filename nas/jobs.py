"""Submitting, running and resuming jobs on this machine: where the parts are put together."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from types import FrameType
from typing import Literal

from nas.core import (
    ConflictError,
    DeviceStore,
    Evaluator,
    Event,
    Executor,
    InvalidInputError,
    Job,
    JobState,
    Report,
    SearchStrategy,
    TrialStore,
)
from nas.core.device import FILES
from nas.driver import Driver, driving
from nas.engine import Engine, Listener
from nas.forecast import check_feasible
from nas.front import Front
from nas.imported_tables import simulated, with_agents
from nas.problem import Problem
from nas.reuse import Reuse, reuse
from nas.spec import JobSpec
from nas.stores import open_store
from nas.table_builds import TableBuilder, tables_meanwhile
from nas.workspace import Workspace, spec_of
from predictors.latency import estimate
from workers.remote import RemoteDevices

logger = logging.getLogger("nas.jobs")
ExecutorName = Literal["local", "ray"]


def checked(
    spec: JobSpec, executor: ExecutorName = "ray", workspace: Workspace | None = None
) -> Problem:
    """The problem of a specification, checked through and through; nothing is written.

    Args:
        spec: what is wanted.
        executor: on which it will run.
        workspace: whose uploads its data may be; None for no uploads.

    Raises:
        InvalidInputError: anything that would go wrong later and can be known now.
    """
    problem = Problem.load(spec) if workspace is None else workspace.problem(spec)
    if workspace is not None:
        workspace.require_devices(spec)
    _require_ray(problem, executor)
    check_feasible(problem)
    return problem


def submit(workspace: Workspace, problem: Problem) -> Job:
    """Store a checked problem as a new job.

    Raises:
        UnknownNameError: a device that never registered nor was imported.
    """
    spec = problem.spec
    workspace.require_devices(spec)
    return workspace.store.create_job(spec.name, spec.to_json())


def run(
    workspace: Workspace,
    job: Job,
    problem: Problem,
    executor: ExecutorName = "ray",
    n_workers: int | None = None,
    address: str | None = None,
    listen: Listener | None = None,
    known: Reuse | None = None,
    say: Report | None = None,
) -> Front:
    """Run a job to its end, or go on where it was left; returns its front.

    Ends early, with the front so far, when the job is paused or cancelled meanwhile. When the
    database goes away it is waited for; trials that ran are then run again.

    Args:
        workspace: where the job is.
        job: neither completed nor cancelled, nor driven by a process that is alive.
        problem: what the job's specification means.
        executor: `ray` for a cluster, `local` for this process or, with several workers, for
            processes of this machine.
        n_workers: trials at once; None for one per CPU on Ray, and one in this process.
        address: of a Ray cluster; None starts a small one here.
        listen: called with every event, stored ones first.
        known: what `reuse` found for the job; None looks now.
        say: is told when the database is waited for, and of tables that are built.

    Raises:
        ConflictError: completed or cancelled already, running in another process, or taken by one
            that could not know that this one is alive; then nothing more is stored.
        StoreError: the database was away for too long.
        ClusterLostError: the Ray cluster is gone; the job can be resumed.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the job can be resumed.
    """
    require_unfinished(job)
    if n_workers is not None and n_workers < 1:
        raise InvalidInputError("workers", n_workers, "at least 1")
    _require_ray(problem, executor)
    store = workspace.store
    folder = workspace.folder(job)
    folder.mkdir(parents=True, exist_ok=True)
    builder = TableBuilder(workspace.home, workspace.store_url)
    tell = logger.info if say is None else say
    heard = _Heard([] if listen is None else [listen])
    with (
        driving(store, job.job_id, say) as driver,
        terminable(),
        tables_meanwhile(problem, builder, store.devices(), tell),
    ):
        devices = devices_of(workspace, job, problem)
        tables = simulated(problem.spec, workspace.home)
        evaluator = problem.evaluator(folder, workspace.home / "supernets", devices, tables)
        trials = store.trial_store(job.job_id, driver.lease)
        with _executors(executor, evaluator, job, n_workers, address, heard) as new:

            def attempt() -> None:
                nonlocal known
                if known is None:
                    known = reuse(store, job, problem)
                strategy = problem.strategy()
                known.teach(strategy)
                with new() as runner:
                    _search(strategy, runner, trials, heard, driver)

            driver.through_outages(attempt, lambda: heard.last)
    return workspace.front(store.job(job.job_id))


def extended(
    job: Job,
    trials: int | None = None,
    finalists: int | None = None,
    constraints: Sequence[str] | None = None,
) -> JobSpec:
    """The specification of a job with more budget, or other constraints.

    Raises:
        ConflictError: the job was cancelled.
        InvalidInputError: a budget smaller than it was.
    """
    if job.state is JobState.CANCELLED:
        raise ConflictError(f"job {job.job_id} was cancelled; submit it anew")
    spec = spec_of(job)
    budget = spec.budget.model_dump()
    for name, wanted in (("trials", trials), ("finalists", finalists)):
        if wanted is not None and wanted < budget[name]:
            raise InvalidInputError(name, wanted, f"at least {budget[name]}, which it has")
        budget[name] = wanted or budget[name]
    changed: dict[str, object] = {"budget": budget}
    if constraints is not None:
        changed["constraints"] = list(constraints)
    return JobSpec.parse({**spec.to_json(), **changed})


def resumable(workspace: Workspace, job_id: str) -> Job:
    """The job to go on with.

    Raises:
        NotFoundError: no such job.
        ConflictError: it is completed or cancelled.
    """
    job = workspace.store.job(job_id)
    require_unfinished(job)
    if job.wanted is JobState.PAUSED and not job.is_driven(time.time()):
        return workspace.store.ask_for(job.job_id, None)
    return job


def _require_ray(problem: Problem, executor: ExecutorName) -> None:
    settings = problem.supernet_settings
    if settings is not None and settings.n_workers > 1 and executor == "local":
        raise InvalidInputError("supernet.n_workers", settings.n_workers, "1, or the ray executor")


def require_unfinished(job: Job) -> None:
    """Refuse a job that is completed or cancelled.

    Raises:
        ConflictError: it is.
    """
    if job.state.is_final:
        raise ConflictError(f"job {job.job_id} is {job.state}; there is nothing to resume")


def devices_of(workspace: Workspace, job: Job, problem: Problem) -> RemoteDevices | None:
    """Where the job's files are timed beside this machine; None where nowhere else."""
    names = with_agents(problem.spec, workspace.home)
    if not names:
        return None
    in_process = workspace.store_url == "memory"
    opened = workspace.store.devices if in_process else partial(_devices_at, workspace.store_url)
    return RemoteDevices(
        names,
        opened,
        workspace.home / FILES,
        job.job_id,
        estimate,
        home=workspace.home,
        goals=problem.spec.goals.metrics,
    )


@cache
def _devices_at(store_url: str) -> DeviceStore:
    """The devices of a store, opened once a process."""
    return open_store(store_url).devices()


class _Heard:
    """Passes on every event once, though each attempt of a run tells them from the first."""

    def __init__(self, listeners: list[Listener]) -> None:
        self.last = 0
        self.listeners = listeners

    def __call__(self, event: Event) -> None:
        if event.sequence > self.last:
            self.last = event.sequence
            for listen in self.listeners:
                listen(event)


def _search(
    strategy: SearchStrategy, runner: Executor, trials: TrialStore, heard: _Heard, driver: Driver
) -> None:
    """Run the loop, doing between its steps what is asked of the driver."""

    def check() -> None:
        driver.check()
        runner.limit(driver.workers)

    Engine(strategy, runner, trials, heard, check=check).run()


@contextmanager
def _executors(
    name: ExecutorName,
    evaluator: Evaluator,
    job: Job,
    n_workers: int | None,
    address: str | None,
    heard: _Heard,
) -> Iterator[Callable[[], Executor]]:
    """What makes executors, one after the other, while the block runs; Ray also gets metrics."""
    if name == "local" and n_workers in (None, 1):
        from workers.executors.local import LocalExecutor

        yield lambda: LocalExecutor(evaluator)
        return
    if name == "local":
        from workers.executors.processes import ProcessExecutor

        yield lambda: ProcessExecutor(evaluator, n_workers)
        return
    from workers.executors.ray import RayExecutor, cluster

    with cluster(address, n_workers):
        from workers.executors.metrics import JobMetrics

        metrics = JobMetrics(job.job_id, job.name, spec_of(job).goals)
        heard.listeners.append(metrics)
        yield lambda: RayExecutor(evaluator, f"{job.name} {job.job_id}", n_workers)
        metrics.flush()


@contextmanager
def terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C while the block runs, where signals can be caught."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
