"""What every store must do, on memory, SQLite and PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.core import (
    Candidate,
    ConflictError,
    Evaluate,
    EventKind,
    Fidelity,
    InvalidInputError,
    JobState,
    JobStore,
    NasError,
    NotFoundError,
    StoreError,
    TrainShared,
    Trial,
    TrialState,
)
from nas.stores import MemoryStore, open_store

TASK = Evaluate(Candidate({"width": 8}, "00000000000000ff"), Fidelity.TRAINED)


def test_jobs_are_stored_found_by_prefix_and_listed_newest_first(store: JobStore) -> None:
    first = store.create_job("first", {"a": [1, {"b": None}]})
    second = store.create_job("second", {})
    assert store.job(first.job_id) == first
    assert store.job(first.job_id[:7]) == first
    assert [j.name for j in store.jobs()][:2] == ["second", "first"]
    assert second.state is JobState.CREATED


def test_keys_are_known_by_owner(store: JobStore) -> None:
    store.create_job("x", {}, owner="ann", key="k")
    assert store.has_key("ann", "k")
    assert not store.has_key("bob", "k")
    assert not store.has_key("ann", "other")


def test_an_unknown_or_ambiguous_job_is_refused(store: JobStore) -> None:
    with pytest.raises(NotFoundError, match="there is no job 'zz'"):
        store.job("zz")
    with pytest.raises(NotFoundError):
        store.trial_store("zz")
    with pytest.raises(NotFoundError):
        store.set_state("zz", JobState.FAILED)
    ids = [store.create_job("x", {}).job_id for _ in range(17)]
    shared = next(c for c in "0123456789abcdef" if sum(i.startswith(c) for i in ids) > 1)
    with pytest.raises(InvalidInputError, match="one of"):
        store.job(shared)


def test_job_state_changes_are_kept(store: JobStore) -> None:
    job = store.create_job("x", {})
    moved = store.set_state(job.job_id, JobState.INTERRUPTED, "stopped")
    assert (moved.state, moved.message) == (JobState.INTERRUPTED, "stopped")
    assert store.job(job.job_id) == moved


def test_a_trial_is_created_finished_and_logged(store: JobStore) -> None:
    trials = store.trial_store(store.create_job("x", {}).job_id)
    a, b = trials.create(TASK), trials.create(TrainShared("darts", 2))
    assert (a.number, b.number) == (0, 1)
    done = a.completed({"accuracy": 0.5}, {"accuracy": {"kind": "measured"}}, {"onnx": "m"}, 1.5)
    trials.finish(done)
    trials.finish(b.failed("broken", 0.5))
    assert list(trials.trials()) == [done, b.failed("broken", 0.5)]
    log = trials.events()
    assert [e.sequence for e in log] == [1, 2, 3, 4]
    assert [e.kind for e in log] == [EventKind.STARTED] * 2 + [EventKind.FINISHED] * 2
    assert [e.trial for e in log] == [a, b, done, b.failed("broken", 0.5)]
    assert list(trials.events(after=2)) == list(log[2:])
    assert list(trials.events(after=4)) == []


def test_finishing_twice_or_never_created_or_running_is_refused(store: JobStore) -> None:
    trials = store.trial_store(store.create_job("x", {}).job_id)
    trial = trials.create(TASK)
    with pytest.raises(ConflictError, match="still running"):
        trials.finish(trial)
    with pytest.raises(NotFoundError):
        trials.finish(Trial(7, TASK).failed("x"))
    trials.finish(trial.completed({}))
    with pytest.raises(ConflictError, match="already completed"):
        trials.finish(trial.failed("late"))
    assert len(trials.events()) == 2


def test_metrics_that_are_not_finite_are_refused_by_name(store: JobStore) -> None:
    trials = store.trial_store(store.create_job("x", {}).job_id)
    trial = trials.create(TASK)
    with pytest.raises(InvalidInputError, match="metric accuracy"):
        trials.finish(trial.completed({"accuracy": float("nan")}))
    assert trials.trials()[0].state is TrialState.RUNNING


def test_what_is_returned_is_a_copy(store: JobStore) -> None:
    job = store.create_job("x", {"a": {"b": 1}})
    job.spec["a"]["b"] = 2
    assert store.job(job.job_id).spec == {"a": {"b": 1}}
    trials = store.trial_store(job.job_id)
    trials.finish(trials.create(TASK).completed({"accuracy": 0.5}))
    trials.trials()[0].metrics["accuracy"] = 0.9  # type: ignore[index]
    assert trials.trials()[0].metrics == {"accuracy": 0.5}


def test_jobs_do_not_see_each_others_trials(store: JobStore) -> None:
    a, b = (store.trial_store(store.create_job("x", {}).job_id) for _ in range(2))
    a.create(TASK)
    assert b.create(TASK).number == 0
    assert len(a.events()) == 1


@given(st.lists(st.tuples(st.sampled_from(["create", "complete", "fail"]), st.integers(0, 5))))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_operations_leave_memory_and_sql_equal(
    tmp_path: Path, operations: list[tuple[str, int]]
) -> None:
    stores = [MemoryStore(), open_store(f"sqlite:///{tmp_path / uuid.uuid4().hex}.db")]
    logs = [s.trial_store(s.create_job("x", {}).job_id) for s in stores]
    for name, number in operations:
        outcomes = []
        for log in logs:
            try:
                if name == "create":
                    outcomes.append(log.create(TASK))
                elif name == "complete":
                    log.finish(Trial(number, TASK).completed({"m": float(number)}))
                else:
                    log.finish(Trial(number, TASK).failed("x"))
            except NasError as error:
                outcomes.append((type(error), str(error)))
        assert len(outcomes) in (0, 2)
        assert not outcomes or outcomes[0] == outcomes[1]
    assert logs[0].trials() == logs[1].trials()
    shown = [[(e.sequence, e.kind, e.trial) for e in log.events()] for log in logs]
    assert shown[0] == shown[1]


WRITER = """
import sys
from nas.core import Candidate, Evaluate, Fidelity
from nas.stores import open_store

trials = open_store(sys.argv[1]).trial_store(sys.argv[2])
for _ in range(40):
    task = Evaluate(Candidate({"width": 8}, "ff"), Fidelity.TRAINED)
    trials.finish(trials.create(task).completed({"m": 1.0}))
"""


def test_concurrent_processes_lose_and_double_nothing(url: str) -> None:
    if url == "memory":
        pytest.skip("memory is of one process by design")
    store = open_store(url)
    job = store.create_job("x", {})
    command = [sys.executable, "-c", WRITER, url, job.job_id]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    log = store.trial_store(job.job_id).events()
    assert [e.sequence for e in log] == list(range(1, 161))
    started = [e.trial.number for e in log if e.kind is EventKind.STARTED]
    finished = [e.trial.number for e in log if e.kind is EventKind.FINISHED]
    assert sorted(started) == sorted(finished) == list(range(80))


def test_reopening_finds_what_was_stored(url: str) -> None:
    if url == "memory":
        pytest.skip("memory does not outlive its process")
    job = open_store(url).create_job("kept", {"a": 1})
    assert open_store(url).job(job.job_id) == job


@pytest.mark.parametrize("url", ["nonsense", "foo://bar", "mysql+nodriver://x/y"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError, match="store"):
        open_store(url)


def test_an_unreachable_database_is_one_sentence() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="the database did not take it"):
        open_store("postgresql+psycopg://nobody@127.0.0.1:1/none")
