"""Which job is driven when."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.cli.service import drive
from nas.core import ConflictError, Job, JobState
from nas.service.launchers import LOG, Launcher, Node, Processes, RayJobs
from nas.service.supervisor import MOST_DEATHS, Supervisor, chosen, shares
from nas.spec import JobSpec
from nas.stores import MemoryStore, open_store
from tests.service.conftest import SPEC
from tests.waiting import until

jobs = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), max_size=12, unique_by=id
).map(
    lambda rows: [
        Job(f"{i:08x}", "x", {}, JobState.CREATED, "", float(i), owner=owner, priority=priority)
        for i, (owner, priority) in enumerate(rows)
    ]
)


@given(jobs, st.integers(0, 5), st.integers(1, 6), st.integers(1, 4))
def test_what_starts_keeps_both_limits_and_leaves_nothing_idle(
    waiting: list[Job], n_driven: int, running: int, per_owner: int
) -> None:
    driven, waiting = waiting[:n_driven], waiting[n_driven:]
    found = chosen(waiting, driven, running, per_owner)
    owners = Counter(job.owner for job in (*driven, *found))
    before = Counter(job.owner for job in driven)
    assert len(found) <= max(0, running - len(driven))
    assert all(owners[job.owner] <= max(per_owner, before[job.owner]) for job in found)
    left = [job for job in waiting if job not in found]
    if len(driven) + len(found) < running:
        assert all(owners[job.owner] >= per_owner for job in left)
    for job in found:
        mates = [j for j in left if j.owner == job.owner]
        assert all((-job.priority, job.created_at) < (-j.priority, j.created_at) for j in mates)


@given(jobs, st.integers(1, 40))
def test_workers_are_shared_evenly_and_all(driven: list[Job], n_workers: int) -> None:
    given_out = shares(driven, n_workers)
    assert set(given_out) == {job.job_id for job in driven}
    if driven:
        assert max(given_out.values()) - min(given_out.values()) <= 1
        assert sum(given_out.values()) == max(n_workers, len(driven))


@dataclass
class Remembering(Launcher):
    """Starts nothing."""

    launched: list[str] = field(default_factory=list)
    alive: set[str] = field(default_factory=set)

    def launch(self, job: Job) -> None:
        self.launched.append(job.job_id)
        self.alive.add(job.job_id)

    def is_alive(self, job_id: str) -> bool:
        return job_id in self.alive

    def nodes(self) -> list[Node]:
        return []

    def workers(self) -> int:
        return 8

    def page(self, job_id: str) -> None:
        return None

    def close(self) -> None:
        pass


def test_a_driver_is_started_once_and_again_when_it_dies() -> None:
    store, launcher = MemoryStore(), Remembering()
    job = store.create_job("x", {})
    supervisor = Supervisor(store, launcher, 4, 4)
    supervisor.turn(100.0)
    supervisor.turn(101.0)
    assert launcher.launched == [job.job_id]
    launcher.alive.clear()
    supervisor.turn(102.0)
    assert launcher.launched == [job.job_id], "it waits a little first"
    supervisor.turn(110.0)
    assert launcher.launched == [job.job_id] * 2


def test_a_job_whose_drivers_always_die_fails_and_says_so() -> None:
    store, launcher = MemoryStore(), Remembering()
    job = store.create_job("x", {})
    supervisor = Supervisor(store, launcher, 4, 4)
    for turn in range(40):
        supervisor.turn(1000.0 * turn)
        launcher.alive.clear()
    found = store.job(job.job_id)
    assert found.state is JobState.FAILED
    assert "died" in found.message
    assert len(launcher.launched) == MOST_DEATHS


def test_a_driven_job_gets_its_share_and_is_left_alone() -> None:
    store, launcher = MemoryStore(), Remembering()
    job, other = store.create_job("x", {}), store.create_job("y", {})
    for one in (job, other):
        store.acquire(one.job_id, "someone", 1e9)
    Supervisor(store, launcher, 4, 4).turn(0.0)
    assert launcher.launched == []
    assert [store.job(j.job_id).workers for j in (job, other)] == [4, 4]


def test_what_is_asked_of_a_job_without_a_driver_is_done() -> None:
    store, launcher = MemoryStore(), Remembering()
    job = store.create_job("x", {})
    lease = store.acquire(job.job_id, "dying", 0.0)
    assert lease.fence == 1
    store.ask_for(job.job_id, JobState.CANCELLED)
    Supervisor(store, launcher, 4, 4).turn(1e12)
    assert store.job(job.job_id).state is JobState.CANCELLED
    assert launcher.launched == []


def test_a_paused_job_is_not_driven_by_a_driver_that_was_starting(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'nas.db'}")
    job = store.create_job("x", JobSpec.parse(SPEC).to_json())
    store.ask_for(job.job_id, JobState.PAUSED)
    with pytest.raises(ConflictError, match="paused"):
        drive(job.job_id, tmp_path)
    assert store.job(job.job_id).state is JobState.PAUSED


def test_drivers_find_the_servers_store_whatever_the_shell_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_STORE", "sqlite:////nowhere/else.db")
    url = f"sqlite:///{tmp_path / 'nas.db'}"
    job = open_store(url).create_job("x", JobSpec.parse(SPEC).to_json())
    open_store(url).ask_for(job.job_id, JobState.PAUSED)
    launcher = Processes(tmp_path, url)
    launcher.launch(job)
    until(lambda: not launcher.is_alive(job.job_id))
    assert "is paused" in (tmp_path / job.job_id / LOG).read_text()


def test_a_cluster_that_does_not_answer_is_said_and_waited_for(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    launcher = RayJobs(tmp_path, lambda: f"http://127.0.0.1:{port}")
    store = MemoryStore()
    job = store.create_job("x", {})
    Supervisor(store, launcher, 4, 4).turn(0.0)
    found = store.job(job.job_id)
    assert found.state is JobState.CREATED
    assert found.message.startswith("waits: the Ray cluster does not take jobs")
    assert launcher.nodes() == () and launcher.workers() == 1
