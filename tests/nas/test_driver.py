"""Driving a job: one driver at a time, told to stop, dead, slow."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from nas import driver, jobs
from nas.core import (
    Candidate,
    ConflictError,
    Evaluation,
    Evaluator,
    Event,
    Fidelity,
    JobState,
    Report,
    TrialState,
)
from nas.driver import driver_id, driving, is_gone, take
from nas.problem import Problem
from nas.stores import MemoryStore
from nas.workspace import Workspace
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def raises(action: Callable[[], object]) -> bool:
    try:
        action()
    except ConflictError:
        return True
    return False


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (None, JobState.COMPLETED, ""),
        (driver.Stopped(JobState.PAUSED), JobState.PAUSED, "paused on request"),
        (driver.Stopped(JobState.CANCELLED), JobState.CANCELLED, "cancelled on request"),
        (KeyboardInterrupt(), JobState.INTERRUPTED, "stopped by the user; resume goes on"),
        (ValueError("bad"), JobState.FAILED, "ValueError: bad"),
    ],
)
def test_the_state_is_true_to_how_the_block_ended(
    store: MemoryStore, error: BaseException | None, state: JobState, message: str
) -> None:
    job = store.create_job("x", {})
    passes_on = error is not None and not isinstance(error, driver.Stopped)
    with pytest.raises(type(error)) if passes_on else nullcontext(), driving(store, job.job_id):
        assert store.job(job.job_id).state is JobState.RUNNING
        if error is not None:
            raise error
    now = store.job(job.job_id)
    assert (now.state, now.message, now.driver) == (state, message, None)


def test_a_lease_is_renewed_for_as_long_as_the_block_runs(store: MemoryStore) -> None:
    job = store.create_job("x", {})
    ends = []
    with driving(store, job.job_id):
        for _ in range(3):
            ends.append(store.job(job.job_id).lease_until)
            until(lambda: store.job(job.job_id).lease_until != ends[-1])
        assert raises(lambda: store.acquire(job.job_id, "other", 30))
    assert ends == sorted(ends, key=lambda end: end or 0.0)


def test_what_is_asked_reaches_the_driver(store: MemoryStore) -> None:
    job = store.create_job("x", {})
    with driving(store, job.job_id) as held:
        held.check()
        store.give_workers(job.job_id, 3)
        until(lambda: held.workers == 3)
        store.ask_for(job.job_id, JobState.PAUSED)
        time.sleep(0.2)
        with pytest.raises(driver.Stopped) as stopped:
            held.check()
        assert stopped.value.state is JobState.PAUSED


def test_a_lost_lease_ends_the_run_and_changes_nothing(store: MemoryStore) -> None:
    job = store.create_job("x", {})

    def drive() -> None:
        with driving(store, job.job_id) as held:
            store.acquire(job.job_id, "other", 30, over=held.lease.fence)
            until(lambda: raises(held.check))
            held.check()

    with pytest.raises(ConflictError, match="other drives it"):
        drive()
    now = store.job(job.job_id)
    assert (now.state, now.driver, now.fence) == (JobState.RUNNING, "other", 2)


def test_a_second_driver_is_refused_while_the_first_lives(store: MemoryStore) -> None:
    job = store.create_job("x", {})
    with driving(store, job.job_id), pytest.raises(ConflictError, match=str(os.getpid())):
        take(store, job.job_id)


def test_a_driver_that_died_here_is_not_waited_for(store: MemoryStore) -> None:
    code = "from nas.driver import driver_id; print(driver_id())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    job = store.create_job("x", {})
    store.acquire(job.job_id, dead.stdout.strip(), 1000)
    assert take(store, job.job_id).fence == 2
    assert store.job(job.job_id).driver == driver_id()


def test_only_drivers_of_this_machine_that_ended_are_gone() -> None:
    host, pid, place, start = driver_id().split(":")
    assert not is_gone(driver_id())
    assert is_gone(f"{host}:{pid}:{place}:{int(start) - 1}")
    assert not is_gone(f"elsewhere:{pid}:{place}:1")
    assert not is_gone(f"{host}:{pid}:otherboot:1")
    assert not is_gone("somebody")
    code = "import time; from nas.driver import driver_id; print(driver_id(), flush=True);"
    command = [sys.executable, "-c", code + "time.sleep(60)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        other = child.stdout.readline().strip()
        assert not is_gone(other)
        child.kill()
        until(lambda: is_gone(other))  # a zombie still, nobody has waited for it
        child.wait()
    assert is_gone(other)


@pytest.mark.parametrize("wanted", [JobState.PAUSED, JobState.CANCELLED])
def test_a_job_is_paused_or_cancelled_in_the_middle(
    tmp_path: Path, instant: Problem, wanted: JobState
) -> None:
    workspace = Workspace(tmp_path, MemoryStore())
    job = jobs.submit(workspace, instant)

    def listen(event: Event) -> None:
        if event.sequence == 4:
            workspace.store.ask_for(job.job_id, wanted)
            time.sleep(0.2)

    front = jobs.run(workspace, job, instant, "local", listen=listen)
    assert workspace.store.job(job.job_id).state is wanted
    counts = workspace.store.trial_store(job.job_id).counts()
    assert counts[TrialState.COMPLETED] == len(front.trials) == 2
    assert counts[TrialState.RUNNING] == 0
    if wanted is JobState.CANCELLED:
        with pytest.raises(ConflictError, match="is cancelled; there is nothing to resume"):
            jobs.resumable(workspace, job.job_id)
        return
    again = jobs.resumable(workspace, job.job_id)
    assert len(jobs.run(workspace, again, instant, "local").trials) == 6
    assert workspace.store.job(job.job_id).state is JobState.COMPLETED


def test_workers_given_meanwhile_are_used(tmp_path: Path, instant: Problem) -> None:
    workspace = Workspace(tmp_path, MemoryStore())
    job = jobs.submit(workspace, instant)
    workspace.store.give_workers(job.job_id, 0)
    given = threading.Event()

    def give() -> None:
        until(lambda: workspace.store.job(job.job_id).driver is not None)
        given.set()
        workspace.store.give_workers(job.job_id, None)

    giving = threading.Thread(target=give)
    giving.start()
    heard: list[bool] = []
    jobs.run(workspace, job, instant, "local", listen=lambda _: heard.append(given.is_set()))
    giving.join()
    assert heard == [True] * 12


@pytest.mark.slow
def test_cancelling_stops_what_runs_on_ray_and_frees_its_cpus(
    tmp_path: Path, instant: Problem, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    import ray

    class Endless(Evaluator):
        """Shipped by value."""

        def evaluate(
            self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
        ) -> Evaluation:
            time.sleep(600)
            return Evaluation({})

    monkeypatch.setattr(Problem, "evaluator", lambda *_: Endless())
    workspace = Workspace(tmp_path, MemoryStore())
    job = jobs.submit(workspace, instant)
    log = workspace.store.trial_store(job.job_id)

    def cancel() -> None:
        until(lambda: log.counts()[TrialState.RUNNING] == 2)
        until(lambda: ray.available_resources().get("CPU", 0) == 0)
        workspace.store.ask_for(job.job_id, JobState.CANCELLED)

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    front = jobs.run(workspace, job, instant, "ray", 2)
    cancelling.join()
    assert {trial.error for trial in front.trials} == {"cancelled"}
    assert workspace.store.job(job.job_id).state is JobState.CANCELLED
    until(lambda: ray.available_resources().get("CPU", 0) == 2)


def test_a_wish_to_pause_that_outlived_its_driver_is_forgotten_on_resume(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path, MemoryStore())
    job = workspace.store.create_job("x", {})
    lease = workspace.store.acquire(job.job_id, "dead", 30)
    workspace.store.ask_for(job.job_id, JobState.PAUSED)
    workspace.store.renew(lease, -1)
    assert jobs.resumable(workspace, job.job_id).wanted is None
