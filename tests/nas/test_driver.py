"""Driving a job: one driver at a time, told to stop, dead, slow, and without its database."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from nas import driver, jobs
from nas.core import (
    Candidate,
    ConflictError,
    Evaluation,
    Evaluator,
    Event,
    EventKind,
    Fidelity,
    JobState,
    JobStore,
    Report,
    StoreError,
    TrialState,
)
from nas.driver import driver_id, driving, is_gone, take
from nas.problem import Problem
from nas.spec import JobSpec
from nas.stores import MemoryStore, open_store
from nas.workspace import Workspace

SPEC = JobSpec.parse(
    {
        "space": {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
        "strategy": {"name": "random"},
        "objectives": ["accuracy", "weight_bytes"],
        "budget": {"trials": 5, "finalists": 1},
    }
)


class Instant(Evaluator):
    """Scores a candidate by its key, at once."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        share = int(candidate.key, 16) / 16**16
        return Evaluation({"accuracy": share, "weight_bytes": 1 - share})


@pytest.fixture
def problem(monkeypatch: pytest.MonkeyPatch) -> Problem:
    monkeypatch.setattr(Problem, "evaluator", lambda *_: Instant())
    return Problem.load(SPEC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(driver, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(driver, "DELAYS", (0.01, 0.02))
    monkeypatch.setattr(driver, "LONGEST_DELAY", 0.02)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def keys(store: JobStore, job_id: str) -> list[str]:
    return [t.candidate.key for t in store.trial_store(job_id).trials() if t.candidate]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


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


def test_a_lease_is_renewed_for_as_long_as_the_block_runs(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LEASE_SECONDS", 0.3)
    job = store.create_job("x", {})
    with driving(store, job.job_id):
        for _ in range(10):
            time.sleep(0.1)
            assert raises(lambda: store.acquire(job.job_id, "other", 30))


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


class Flaky:
    """A store whose database is away while `away` says so, before or after a write."""

    def __init__(self, store: Any, away: Callable[[str], bool], after: bool = False) -> None:
        self._store = store
        self._away = away
        self._after = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def called(*arguments: Any, **named: Any) -> Any:
            away = self._away(name)
            if away and not self._after:
                raise StoreError("gone")
            found = method(*arguments, **named)
            if away:
                raise StoreError("gone before it answered")
            return Flaky(found, self._away, self._after) if name == "trial_store" else found

        return called


class Outages:
    """The database is away for `n` calls from every call of `at` on."""

    def __init__(self, name: str, at: Sequence[int], n: int) -> None:
        self.name, self.at, self.n = name, at, n
        self.calls = self.left = 0
        self.driver = threading.get_ident()

    def __call__(self, name: str) -> bool:
        if name == self.name and threading.get_ident() == self.driver:
            self.calls += 1
            self.left = self.n if self.calls in self.at else self.left
        self.left -= 1
        return self.left >= 0


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("name", "at", "n"),
    [("create", [1, 4], 5), ("finish", [2, 5], 7), ("events", [3, 9], 4), ("release", [1], 5)],
)
def test_a_run_waits_for_its_database_and_goes_on_identically(
    tmp_path: Path, problem: Problem, name: str, at: list[int], n: int, after: bool
) -> None:
    whole = Workspace(tmp_path / "whole", MemoryStore())
    job = jobs.submit(whole, problem)
    jobs.run(whole, job, problem, "local")
    store, said = MemoryStore(), []
    flaky: Any = Flaky(store, Outages(name, at, n), after)
    heard: list[Event] = []
    workspace = Workspace(tmp_path / "flaky", flaky)
    again = store.create_job(SPEC.name, SPEC.to_json())
    front = jobs.run(workspace, again, problem, "local", listen=heard.append, say=said.append)
    assert list(front.trials) == list(store.trial_store(again.job_id).trials())
    assert keys(store, again.job_id) == keys(whole.store, job.job_id)
    assert store.job(again.job_id).state is JobState.COMPLETED
    log = store.trial_store(again.job_id).events()
    assert heard == list(log)
    finished = [e.trial.number for e in log if e.kind is EventKind.FINISHED]
    assert sorted(finished) == list(range(6))
    assert any("waiting for the database: gone" in line for line in said)


def test_a_database_that_is_there_and_refuses_ends_the_run(
    tmp_path: Path, problem: Problem
) -> None:
    store = MemoryStore()
    flaky: Any = Flaky(store, lambda name: name == "finish")
    job = store.create_job(SPEC.name, SPEC.to_json())
    with pytest.raises(StoreError, match="gone"):
        jobs.run(Workspace(tmp_path, flaky), job, problem, "local")
    assert store.job(job.job_id).state is JobState.FAILED


def test_a_database_that_stays_away_ends_the_run_some_time(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "OUTAGE_SECONDS", 0.2)
    store, away = MemoryStore(), threading.Event()
    flaky: Any = Flaky(store, lambda _: away.is_set())
    job = store.create_job(SPEC.name, SPEC.to_json())

    def listen(event: Event) -> None:
        if event.kind is EventKind.FINISHED:
            away.set()

    with pytest.raises(StoreError, match="gone"):
        jobs.run(Workspace(tmp_path, flaky), job, problem, "local", listen=listen)
    assert store.job(job.job_id).state is JobState.RUNNING
    assert jobs.resumable(Workspace(tmp_path, store), job.job_id).fence == 1


@pytest.mark.parametrize("wanted", [JobState.PAUSED, JobState.CANCELLED])
def test_a_job_is_paused_or_cancelled_in_the_middle(
    tmp_path: Path, problem: Problem, wanted: JobState
) -> None:
    workspace = Workspace(tmp_path, MemoryStore())
    job = jobs.submit(workspace, problem)

    def listen(event: Event) -> None:
        if event.sequence == 4:
            workspace.store.ask_for(job.job_id, wanted)
            time.sleep(0.2)

    front = jobs.run(workspace, job, problem, "local", listen=listen)
    assert workspace.store.job(job.job_id).state is wanted
    counts = workspace.store.trial_store(job.job_id).counts()
    assert counts[TrialState.COMPLETED] == len(front.trials) == 2
    assert counts[TrialState.RUNNING] == 0
    if wanted is JobState.CANCELLED:
        with pytest.raises(ConflictError, match="is cancelled; there is nothing to resume"):
            jobs.resumable(workspace, job.job_id)
        return
    again = jobs.resumable(workspace, job.job_id)
    assert len(jobs.run(workspace, again, problem, "local").trials) == 6
    assert workspace.store.job(job.job_id).state is JobState.COMPLETED


def test_workers_given_meanwhile_are_used(tmp_path: Path, problem: Problem) -> None:
    workspace = Workspace(tmp_path, MemoryStore())
    job = jobs.submit(workspace, problem)
    workspace.store.give_workers(job.job_id, 0)
    giving = threading.Timer(0.3, lambda: workspace.store.give_workers(job.job_id, None))
    started: list[float] = []
    begun = time.monotonic()
    giving.start()
    jobs.run(workspace, job, problem, "local", listen=lambda _: started.append(time.monotonic()))
    assert started[0] - begun > 0.3
    assert len(started) == 12


@pytest.mark.slow
def test_cancelling_stops_what_runs_on_ray_and_frees_its_cpus(
    tmp_path: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
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
    job = jobs.submit(workspace, problem)
    log = workspace.store.trial_store(job.job_id)

    def cancel() -> None:
        until(lambda: log.counts()[TrialState.RUNNING] == 2)
        until(lambda: ray.available_resources().get("CPU", 0) == 0)
        workspace.store.ask_for(job.job_id, JobState.CANCELLED)

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    front = jobs.run(workspace, job, problem, "ray", 2)
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


@contextmanager
def private_postgres() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A server of our own: its URL, and what starts and stops it."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no initdb and pg_ctl to start a PostgreSQL server with")
    pytest.importorskip("psycopg")
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="nas_pg_"))
    if user:
        try:
            shutil.chown(folder, "postgres")
        except LookupError:
            pytest.skip("no user that may run a PostgreSQL server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def command(*arguments: str) -> None:
        subprocess.run(
            arguments, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **user
        )

    def control(what: str) -> None:
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        start = ["-o", options, "-l", f"{folder}/log"] if what == "start" else ["-m", "immediate"]
        command("pg_ctl", "-D", f"{folder}/data", "-w", *start, what)

    command("initdb", "-D", f"{folder}/data", "-U", "nas", "-A", "trust", "--no-sync")
    control("start")
    try:
        yield f"postgresql+psycopg://nas@127.0.0.1:{port}/postgres", control
    finally:
        subprocess.run(
            ["pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop"],
            check=False, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_postgresql_stopped_in_the_middle_of_a_run(tmp_path: Path, problem: Problem) -> None:
    with private_postgres() as (url, control):
        store = open_store(url)
        workspace = Workspace(tmp_path, store)
        job, said = jobs.submit(workspace, problem), []
        starting = threading.Timer(3.0, lambda: control("start"))

        def listen(event: Event) -> None:
            if event.sequence == 5:
                control("stop")
                starting.start()

        front = jobs.run(workspace, job, problem, "local", listen=listen, say=said.append)
        starting.join()
        assert len(front.trials) == 6
        assert store.job(job.job_id).state is JobState.COMPLETED
        log = store.trial_store(job.job_id).events()
        assert [e.sequence for e in log] == list(range(1, 13))
        assert any("waiting for the database" in line for line in said)
        assert "the database is back" in said
