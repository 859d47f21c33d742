"""A job whose database goes away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nas import driver, jobs
from nas.core import (
    Event,
    EventKind,
    JobState,
    JobStore,
    StoreError,
)
from nas.problem import Problem
from nas.stores import MemoryStore, open_store
from nas.workspace import Workspace

pytestmark = pytest.mark.usefixtures("quick")


def keys(store: JobStore, job_id: str) -> list[str]:
    return [t.candidate.key for t in store.trial_store(job_id).trials() if t.candidate]


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
    tmp_path: Path, instant: Problem, name: str, at: list[int], n: int, after: bool
) -> None:
    whole = Workspace(tmp_path / "whole", MemoryStore())
    job = jobs.submit(whole, instant)
    jobs.run(whole, job, instant, "local")
    store, said = MemoryStore(), []
    flaky: Any = Flaky(store, Outages(name, at, n), after)
    heard: list[Event] = []
    workspace = Workspace(tmp_path / "flaky", flaky)
    again = store.create_job(instant.spec.name, instant.spec.to_json())
    front = jobs.run(workspace, again, instant, "local", listen=heard.append, say=said.append)
    assert list(front.trials) == list(store.trial_store(again.job_id).trials())
    assert keys(store, again.job_id) == keys(whole.store, job.job_id)
    assert store.job(again.job_id).state is JobState.COMPLETED
    log = store.trial_store(again.job_id).events()
    assert heard == list(log)
    finished = [e.trial.number for e in log if e.kind is EventKind.FINISHED]
    assert sorted(finished) == list(range(6))
    assert any("waiting for the database: gone" in line for line in said)


def test_a_database_that_is_there_and_refuses_ends_the_run(
    tmp_path: Path, instant: Problem
) -> None:
    store = MemoryStore()
    flaky: Any = Flaky(store, lambda name: name == "finish")
    job = store.create_job(instant.spec.name, instant.spec.to_json())
    with pytest.raises(StoreError, match="gone"):
        jobs.run(Workspace(tmp_path, flaky), job, instant, "local")
    assert store.job(job.job_id).state is JobState.FAILED


def test_a_database_that_stays_away_ends_the_run_some_time(
    tmp_path: Path, instant: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "OUTAGE_SECONDS", 0.2)
    store, away = MemoryStore(), threading.Event()
    flaky: Any = Flaky(store, lambda _: away.is_set())
    job = store.create_job(instant.spec.name, instant.spec.to_json())

    def listen(event: Event) -> None:
        if event.kind is EventKind.FINISHED:
            away.set()

    with pytest.raises(StoreError, match="gone"):
        jobs.run(Workspace(tmp_path, flaky), job, instant, "local", listen=listen)
    assert store.job(job.job_id).state is JobState.RUNNING
    assert jobs.resumable(Workspace(tmp_path, store), job.job_id).fence == 1


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
def test_postgresql_stopped_in_the_middle_of_a_run(tmp_path: Path, instant: Problem) -> None:
    with private_postgres() as (url, control):
        store = open_store(url)
        workspace = Workspace(tmp_path, store)
        job, said = jobs.submit(workspace, instant), []
        starting = threading.Timer(3.0, lambda: control("start"))

        def listen(event: Event) -> None:
            if event.sequence == 5:
                control("stop")
                starting.start()

        front = jobs.run(workspace, job, instant, "local", listen=listen, say=said.append)
        starting.join()
        assert len(front.trials) == 6
        assert store.job(job.job_id).state is JobState.COMPLETED
        log = store.trial_store(job.job_id).events()
        assert [e.sequence for e in log] == list(range(1, 13))
        assert any("waiting for the database" in line for line in said)
        assert "the database is back" in said
