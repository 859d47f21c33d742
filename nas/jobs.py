"""Submitting, running and resuming jobs on this machine: where the parts are put together."""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from nas.core import (
    ConflictError,
    Executor,
    InvalidInputError,
    Job,
    JobState,
    JobStore,
)
from nas.engine import Engine, Listener
from nas.forecast import check_feasible
from nas.front import Front
from nas.problem import Problem
from nas.reuse import Reuse, reuse
from nas.spec import JobSpec
from nas.stores import open_store

ExecutorName = Literal["local", "ray"]
DEFAULT_HOME = Path("nas_runs")


@dataclass(frozen=True)
class Workspace:
    """A folder for files, and the store beside them.

    Attributes:
        home: artifacts of a job go to `home/<job id>/`.
        store: of jobs and trials.
    """

    home: Path
    store: JobStore

    @classmethod
    def open(cls, home: str | Path = DEFAULT_HOME, store_url: str | None = None) -> Workspace:
        """Open `home`, made if need be; the store is `home/nas.db` unless another is named.

        Raises:
            InvalidInputError: `home` is a file, or the store's URL is no URL.
        """
        folder = Path(home).absolute()
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError("home", str(home), "a folder, or a new path")
        return cls(folder, open_store(store_url or f"sqlite:///{folder / 'nas.db'}"))

    def folder(self, job: Job) -> Path:
        """Where a job's files are."""
        return self.home / job.job_id

    def front(self, job: Job) -> Front:
        """The job's front as it stands now."""
        trials = self.store.trial_store(job.job_id).trials()
        return Front.of(job, JobSpec.parse(job.spec).goals, trials, self.folder(job))


def checked(spec: JobSpec, executor: ExecutorName = "ray") -> Problem:
    """The problem of a specification, checked through and through; nothing is written.

    Args:
        spec: what is wanted.
        executor: on which it will run.

    Raises:
        InvalidInputError: anything that would go wrong later and can be known now.
    """
    problem = Problem.load(spec)
    _require_ray(problem, executor)
    check_feasible(problem)
    return problem


def submit(workspace: Workspace, problem: Problem) -> Job:
    """Store a checked problem as a new job."""
    spec = problem.spec
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
) -> Front:
    """Run a job to its end, or go on where it was left; returns its front.

    Args:
        workspace: where the job is.
        job: new, interrupted, failed, or left running by a process that died.
        problem: what the job's specification means.
        executor: `ray` for a cluster, `local` for this process.
        n_workers: trials at once on Ray; None for one per CPU.
        address: of a Ray cluster; None starts a small one here.
        listen: called with every event, stored ones first.
        known: what `reuse` found for the job; None looks now.

    Raises:
        ConflictError: completed already, or running in another process.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM; the job can be resumed.
    """
    _require_unfinished(job)
    if n_workers is not None and n_workers < 1:
        raise InvalidInputError("workers", n_workers, "at least 1")
    _require_ray(problem, executor)
    store = workspace.store
    with _only_driver(workspace.folder(job)), _recorded(store, job), _terminable():
        evaluator = problem.evaluator(workspace.folder(job), workspace.home / "supernets")
        with contextlib.ExitStack() as stack:
            runner: Executor
            if executor == "local":
                from workers.executors.local import LocalExecutor

                runner = LocalExecutor(evaluator)
            else:
                from workers.executors.ray import RayExecutor, cluster

                stack.enter_context(cluster(address, n_workers))
                runner = RayExecutor(evaluator, f"{job.name} {job.job_id}", n_workers)
            stack.enter_context(runner)
            strategy = problem.strategy()
            if known is None:
                known = reuse(store, job, problem)
            strategy.learn_from(known.lessons)
            for scores in known.scores.values():
                strategy.recall(scores)
            Engine(strategy, runner, store.trial_store(job.job_id), listen).run()
    return workspace.front(store.job(job.job_id))


def resumable(workspace: Workspace, job_id: str) -> Job:
    """The job to go on with.

    Raises:
        NotFoundError: no such job.
        ConflictError: it is completed.
    """
    job = workspace.store.job(job_id)
    _require_unfinished(job)
    return job


def _require_ray(problem: Problem, executor: ExecutorName) -> None:
    settings = problem.supernet_settings
    if settings is not None and settings.n_workers > 1 and executor == "local":
        raise InvalidInputError("supernet.n_workers", settings.n_workers, "1, or the ray executor")


def _require_unfinished(job: Job) -> None:
    if job.state is JobState.COMPLETED:
        raise ConflictError(f"job {job.job_id} is completed; there is nothing to resume")


@contextmanager
def _recorded(store: JobStore, job: Job) -> Iterator[None]:
    """Keep the job's state true to what happens in the block."""
    store.set_state(job.job_id, JobState.RUNNING)
    try:
        yield
    except KeyboardInterrupt:
        store.set_state(job.job_id, JobState.INTERRUPTED, "stopped by the user; resume goes on")
        raise
    except BaseException as error:
        store.set_state(job.job_id, JobState.FAILED, f"{type(error).__name__}: {error}")
        raise
    store.set_state(job.job_id, JobState.COMPLETED)


@contextmanager
def _only_driver(folder: Path) -> Iterator[None]:
    """Hold the job's lock file, so that no two processes on this machine drive one job."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "driver.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConflictError(f"job {folder.name} is running in another process") from None
        yield


@contextmanager
def _terminable() -> Iterator[None]:
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
