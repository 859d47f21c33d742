"""Jobs on two Ray nodes with PostgreSQL and the API apart, and what happens when parts fail."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from nas.client import Client, ClientJob
from nas.core import TrialState
from tests.service.conftest import SPEC
from tests.service.processes import keys, same_trials
from tests.topology import Topology, obstacle
from tests.waiting import until

REASON = obstacle()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(REASON is not None, reason=str(REASON))]
N_TRIALS = 12
LONGER = {**SPEC, "budget": {"trials": N_TRIALS, "finalists": 2}, "warm_start": False}
WAIT_SECONDS = 300.0


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with Topology.up() as running:
        yield running


@pytest.fixture
def client(topology: Topology) -> Iterator[Client]:
    for host in ("database", "head", "worker", "api"):
        topology.restore(host)
        if not topology.answers(host):
            topology.kill(host)
            topology.start(host)
    with Client(topology.url, topology.token) as connected:
        yield connected


@pytest.fixture(scope="module")
def unbroken(topology: Topology) -> list[tuple[int, str | None]]:
    """Trials of the same job when nothing fails."""
    with Client(topology.url, topology.token) as client:
        job = client.submit(**LONGER)
        job.wait(progress=False, timeout=WAIT_SECONDS)
        return keys(job)


def n_completed(job: ClientJob) -> int:
    return len(job.trials(states=[TrialState.COMPLETED]))


def assert_nothing_lost(job: ClientJob, unbroken: list[tuple[int, str | None]]) -> None:
    """It has the trials it would have had, all completed, each told of once."""
    job.wait(progress=False, timeout=WAIT_SECONDS)
    assert same_trials(keys(job), unbroken, N_TRIALS)
    assert all(trial.state is TrialState.COMPLETED for trial in job.trials())
    assert [event.sequence for event in job.stream()] == list(range(1, 2 * len(unbroken) + 1))


def test_a_job_runs_end_to_end_with_trials_on_both_nodes(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    assert_nothing_lost(job, unbroken)
    mine = [task for task in topology.ray("tasks") if job.job_id in task["name"]]
    assert len(mine) == len(unbroken)
    assert len({task["node_id"] for task in mine}) == 2
    with topology.connect() as connection:
        (n,) = connection.execute("SELECT count(*) FROM trials").fetchone() or (0,)
    assert n >= 2 * len(unbroken)
    (best, *_) = job.front()
    assert best.export(topology.folder / "exported" / job.job_id).is_dir()


def test_a_short_cut_between_the_nodes_goes_unnoticed(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: n_completed(job) >= 2, WAIT_SECONDS)
    topology.cut("worker")
    time.sleep(4)
    topology.restore("worker")
    assert_nothing_lost(job, unbroken)
    assert len({node["node_id"] for node in topology.ray("nodes") if node["state"] == "ALIVE"}) == 2


def test_a_node_cut_off_for_long_is_given_up_and_its_trials_run_again(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: bool(topology.busy("worker")), WAIT_SECONDS)
    topology.cut("worker")
    assert_nothing_lost(job, unbroken)
    until(lambda: any(node["state"] == "DEAD" for node in topology.ray("nodes")), 60)
    topology.restore("worker")
    until(lambda: not topology.pids("worker"), 120)  # so that whoever watches it starts it again
    topology.start("worker")
    assert sum(node["state"] == "ALIVE" for node in topology.ray("nodes")) == 2


def test_a_killed_trial_process_is_tried_again(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: bool(topology.busy("worker")), WAIT_SECONDS)
    os.kill(topology.busy("worker")[0], signal.SIGKILL)
    assert_nothing_lost(job, unbroken)


def test_a_job_waits_for_a_database_that_is_away(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: n_completed(job) >= 2, WAIT_SECONDS)
    topology.kill("database")
    time.sleep(5)
    topology.start("database")
    assert_nothing_lost(job, unbroken)


def test_a_killed_api_changes_nothing_for_running_jobs(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: n_completed(job) >= 1, WAIT_SECONDS)
    topology.kill("api")
    topology.start("api")
    assert_nothing_lost(job, unbroken)


def test_a_killed_head_costs_time_but_no_trial(
    topology: Topology, client: Client, unbroken: list[tuple[int, str | None]]
) -> None:
    job = client.submit(**LONGER)
    until(lambda: n_completed(job) >= 2, WAIT_SECONDS)
    topology.kill("head")
    topology.kill("worker")
    topology.start("head")
    topology.start("worker")
    assert_nothing_lost(job, unbroken)
