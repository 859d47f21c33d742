"""Every fault that is injected into real parts, and whether what must hold then held here.

    .venv/bin/python tests/benchmarks/faults.py

Runs the tests that are named below. Some need root (namespaces, a small disk), a PostgreSQL server
or Ray; what was skipped is said.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Fault:
    """What goes wrong, what must hold nevertheless, and the test that tries it."""

    what: str
    holds: str
    file: str
    name: str

    @property
    def test(self) -> str:
        """As pytest names it."""
        return f"{self.file}::{self.name}"


FAULTS = (
    Fault(
        "a process is killed in a trial",
        "the trial is run again; no other is touched",
        "tests/service/test_survival.py",
        "test_trials_of_one_job_run_in_processes_at_once_and_one_killed_is_run_again",
    ),
    Fault(
        "a worker is killed in a trial, on Ray and in processes",
        "the trial is retried and completes",
        "tests/workers/test_executors.py",
        "test_a_worker_killed_once_is_retried",
    ),
    Fault(
        "a worker is killed at every try of a trial",
        "the trial counts as failed, the search goes on",
        "tests/workers/test_executors.py",
        "test_a_worker_that_always_dies_is_a_failed_trial",
    ),
    Fault(
        "a trial's process is killed on another node",
        "its trial is tried again; the search is that of a quiet cluster",
        "tests/service/test_topology.py",
        "test_a_killed_trial_process_is_tried_again",
    ),
    Fault(
        "a job's driver is killed",
        "another takes over; no trial is lost or doubled",
        "tests/service/test_survival.py",
        "test_a_killed_driver_is_replaced_and_nothing_is_lost_or_doubled",
    ),
    Fault(
        "a search is interrupted in the middle of a trial",
        "a fresh strategy goes on with the identical next candidate",
        "tests/nas/test_engine.py",
        "test_an_interrupted_search_goes_on_identically",
    ),
    Fault(
        "the server is killed",
        "the next one goes on; streams resume after their last event",
        "tests/service/test_survival.py",
        "test_a_killed_server_is_started_again_and_the_stream_goes_on",
    ),
    Fault(
        "the API is killed while drivers run elsewhere",
        "running jobs do not notice",
        "tests/service/test_topology.py",
        "test_a_killed_api_changes_nothing_for_running_jobs",
    ),
    Fault(
        "a Ray worker and the Ray head are killed",
        "the job is driven again and completes",
        "tests/service/test_ray.py",
        "test_a_job_is_a_ray_job_and_survives_its_worker_and_its_head",
    ),
    Fault(
        "the head of a cluster of two nodes is killed",
        "it costs time but no trial",
        "tests/service/test_topology.py",
        "test_a_killed_head_costs_time_but_no_trial",
    ),
    Fault(
        "the cable between two nodes is cut for seconds",
        "nothing is noticed, no node is given up",
        "tests/service/test_topology.py",
        "test_a_short_cut_between_the_nodes_goes_unnoticed",
    ),
    Fault(
        "the cable between two nodes is cut for good",
        "the node is given up, its trials run again elsewhere",
        "tests/service/test_topology.py",
        "test_a_node_cut_off_for_long_is_given_up_and_its_trials_run_again",
    ),
    Fault(
        "PostgreSQL is stopped in a run and started again",
        "the run waits and goes on without a gap in its log",
        "tests/nas/test_outages.py",
        "test_postgresql_stopped_in_the_middle_of_a_run",
    ),
    Fault(
        "the database's host is killed and started again",
        "the job waits and completes",
        "tests/service/test_topology.py",
        "test_a_job_waits_for_a_database_that_is_away",
    ),
    Fault(
        "a driver wakes up after another took its job",
        "its fence is out of date: it writes nothing",
        "tests/stores/test_leases.py",
        "test_who_lost_the_lease_writes_nothing",
    ),
    Fault(
        "a job is taken over while others write to it",
        "no write slips past the takeover",
        "tests/stores/test_leases.py",
        "test_a_write_cannot_slip_past_a_takeover",
    ),
    Fault(
        "several drivers want one job at once",
        "exactly one gets it",
        "tests/stores/test_leases.py",
        "test_of_racing_drivers_exactly_one_wins",
    ),
    Fault(
        "many processes write to one database at once",
        "nothing is lost or doubled",
        "tests/stores/test_conformance.py",
        "test_concurrent_processes_lose_and_double_nothing",
    ),
    Fault(
        "a disk is full",
        "the trial waits, and runs when there is room",
        "tests/workers/test_executors.py",
        "test_a_full_disk_is_waited_for",
    ),
    Fault(
        "a device's link is cut and its agent killed",
        "files are measured again; every trial has measured values",
        "tests/service/test_remote_device.py",
        "test_a_search_survives_its_device",
    ),
    Fault(
        "an agent is killed while it measures",
        "its work is claimed again and signed off once",
        "tests/service/test_agent.py",
        "test_an_agent_killed_in_the_middle_loses_nothing",
    ),
    Fault(
        "an agent's server goes away",
        "the agent waits for it and goes on",
        "tests/service/test_agent.py",
        "test_an_agent_outlives_its_server",
    ),
    Fault(
        "a file takes its device down every time",
        "the work fails in the end instead of going round",
        "tests/stores/test_devices.py",
        "test_work_that_takes_the_device_down_fails_in_the_end",
    ),
    Fault(
        "a server ends while it builds a table of layers",
        "the next one goes on where it was",
        "tests/service/test_tables.py",
        "test_a_build_goes_on_with_a_server_started_anew",
    ),
    Fault(
        "a connection breaks while a file is sent",
        "the file is sent again from its beginning",
        "tests/service/test_transport.py",
        "test_a_file_is_sent_again_from_its_beginning",
    ),
    Fault(
        "a connection breaks in a request that might act twice",
        "it is not repeated",
        "tests/service/test_transport.py",
        "test_what_might_act_twice_is_not_repeated",
    ),
    Fault(
        "the answer to a deletion is lost",
        "the repeated request counts as done",
        "tests/service/test_api.py",
        "test_a_deletion_whose_answer_was_lost_is_done",
    ),
    Fault(
        "one submission is sent from many threads",
        "it is one job",
        "tests/service/test_api.py",
        "test_one_key_is_one_job_also_from_many_threads",
    ),
    Fault(
        "a file of kept columns is broken",
        "it is not used; the log is read anew",
        "tests/service/test_kept.py",
        "test_a_broken_file_is_not_used",
    ),
)


def table() -> str:
    """The faults as a table of Markdown."""
    rows = ["| fault | what holds | test |", "| --- | --- | --- |"]
    rows += [f"| {f.what} | {f.holds} | `{f.name}` in `{f.file}` |" for f in FAULTS]
    return "\n".join(rows)


def outcomes(tests: Sequence[str]) -> dict[str, Counter[str]]:
    """How often each test passed, failed or was skipped; pytest's own words go to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        subprocess.run([*command, f"--junitxml={report}", *tests], cwd=ROOT, stdout=sys.stderr)
        found: dict[str, Counter[str]] = {test: Counter() for test in tests}
        for case in ElementTree.parse(report).iter("testcase"):
            ends = {child.tag for child in case} & {"skipped", "failure", "error"}
            name = case.attrib["name"].partition("[")[0]
            file = case.attrib["classname"].replace(".", "/") + ".py"
            end = "skipped" if "skipped" in ends else "failed" if ends else "passed"
            found[f"{file}::{name}"][end] += 1
    return found


def main() -> None:
    """Print a line a fault; fail if one of them did harm."""
    found = outcomes([fault.test for fault in FAULTS])
    for fault in FAULTS:
        counts = ", ".join(f"{n} {end}" for end, n in sorted(found[fault.test].items()))
        print(f"{fault.what:<58} {counts or 'not run'}")
    if any(counts["failed"] or not counts for counts in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
