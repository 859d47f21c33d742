"""Who may drive a job, what may be asked of it, and that a driver who lost it writes nothing."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    Job,
    JobState,
    JobStore,
    Lease,
    NasError,
    NotFoundError,
    TrialState,
)
from nas.stores import MemoryStore, open_store

TASK = Evaluate(Candidate({"width": 8}, "00000000000000ff"), Fidelity.TRAINED)
FINAL = [JobState.COMPLETED, JobState.CANCELLED]


@pytest.fixture
def job(store: JobStore) -> Job:
    return store.create_job("x", {"a": 1})


def stores_on(store: JobStore, url: str, n: int) -> list[JobStore]:
    """As many clients of one store; memory has but one."""
    return [store if url == "memory" else open_store(url) for _ in range(n)]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """What calls give or raise that start together, each in its thread."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except NasError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_a_lease_is_taken_renewed_and_released(store: JobStore, job: Job) -> None:
    before = time.time()
    lease = store.acquire(job.job_id, "me", 30)
    assert lease == Lease(job.job_id, "me", 1)
    held = store.job(job.job_id)
    assert (held.state, held.driver, held.fence) == (JobState.RUNNING, "me", 1)
    assert held.is_driven(before) and not held.is_driven(before + 40)
    later = store.renew(lease, 60)
    assert later.is_driven(before + 59)
    assert later == store.job(job.job_id)
    done = store.release(lease, JobState.FAILED, "broken")
    assert (done.state, done.message, done.driver) == (JobState.FAILED, "broken", None)
    assert done.lease_until is None and done.fence == 1
    assert store.release(lease, JobState.FAILED, "broken") == done
    with pytest.raises(ConflictError, match="me no longer drives"):
        store.renew(lease, 30)
    with pytest.raises(ConflictError, match="it is failed"):
        store.release(lease, JobState.COMPLETED)
    assert store.acquire(job.job_id, "you", 30).fence == 2
    assert store.job(job.job_id).message == ""


def test_a_living_lease_is_not_taken_but_a_dead_one_is(store: JobStore, job: Job) -> None:
    lease = store.acquire(job.job_id, "me", 30)
    with pytest.raises(ConflictError, match="driven by me"):
        store.acquire(job.job_id, "you", 30)
    with pytest.raises(ConflictError, match="driven by me"):
        store.acquire(job.job_id, "you", 30, over=lease.fence - 1)
    assert store.acquire(job.job_id, "you", -1, over=lease.fence).fence == 2
    assert store.acquire(job.job_id, "third", 30).fence == 3


def test_a_lease_that_ran_out_is_renewed_if_nobody_took_the_job(store: JobStore, job: Job) -> None:
    lease = store.acquire(job.job_id, "me", -1)
    assert not store.job(job.job_id).is_driven(time.time())
    assert store.renew(lease, 30).is_driven(time.time())


@pytest.mark.parametrize("state", FINAL)
def test_final_jobs_are_not_driven_nor_asked_anything(
    store: JobStore, job: Job, state: JobState
) -> None:
    store.set_state(job.job_id, state)
    with pytest.raises(ConflictError, match=state):
        store.acquire(job.job_id, "me", 30)
    for wanted in (JobState.PAUSED, JobState.CANCELLED, None):
        with pytest.raises(ConflictError, match=state):
            store.ask_for(job.job_id, wanted)


def test_unknown_jobs_and_foreign_leases_are_refused(store: JobStore, job: Job) -> None:
    other = store.create_job("y", {})
    lease = store.acquire(other.job_id, "me", 30)
    gone = replace(lease, job_id="zz")
    calls: list[Callable[[], object]] = [
        lambda: store.acquire("zz", "me", 30),
        lambda: store.renew(gone, 30),
        lambda: store.release(gone, JobState.FAILED),
        lambda: store.ask_for("zz", None),
        lambda: store.give_workers("zz", 1),
        lambda: store.extend("zz", {}),
        lambda: store.delete_job("zz"),
    ]
    for call in calls:
        with pytest.raises(NotFoundError):
            call()
    with pytest.raises(InvalidInputError, match="lease"):
        store.trial_store(job.job_id, lease)
    with pytest.raises(InvalidInputError, match="driver"):
        store.acquire(job.job_id, "d" * 201, 30)


def test_who_lost_the_lease_writes_nothing(store: JobStore, job: Job) -> None:
    old = store.acquire(job.job_id, "old", 30)
    theirs = store.trial_store(job.job_id, old)
    running = theirs.create(TASK)
    new = store.acquire(job.job_id, "new", 30, over=old.fence)
    calls: list[Callable[[], object]] = [
        lambda: theirs.create(TASK),
        lambda: theirs.finish(running.completed({})),
        lambda: store.renew(old, 30),
        lambda: store.release(old, JobState.FAILED),
    ]
    before = store.job(job.job_id)
    for call in calls:
        with pytest.raises(ConflictError, match=r"old no longer drives.*new drives it"):
            call()
    assert store.job(job.job_id) == before
    assert len(theirs.events()) == 1
    ours = store.trial_store(job.job_id, new)
    ours.finish(running.completed({}))
    assert ours.create(TASK).number == 1
    store.release(new, JobState.INTERRUPTED)
    with pytest.raises(ConflictError, match="it is interrupted"):
        ours.create(TASK)


def test_a_write_cannot_slip_past_a_takeover(store: JobStore, url: str, job: Job) -> None:
    clients = stores_on(store, url, 4)
    lease = store.acquire(job.job_id, "old", 30)
    logs = [client.trial_store(job.job_id, lease) for client in clients[1:]]
    seen: list[int] = []

    def take_over() -> None:
        time.sleep(0.05)
        clients[0].acquire(job.job_id, "new", 30, over=lease.fence)
        seen.append(clients[0].trial_store(job.job_id).last_sequence())

    def write(i: int) -> None:
        while True:
            logs[i].finish(logs[i].create(TASK).completed({}))

    outcomes = at_once([take_over, *(lambda i=i: write(i) for i in range(3))])
    assert all("new drives it" in str(error) for error in outcomes[1:])
    log = store.trial_store(job.job_id).events()
    assert [seen[0]] == [len(log)] == [log[-1].sequence]


def test_of_racing_drivers_exactly_one_wins(store: JobStore, url: str) -> None:
    clients = stores_on(store, url, 4)
    for over in (None, 1):
        for _ in range(5):
            job = store.create_job("x", {})
            if over is not None:
                store.acquire(job.job_id, "dead", 30)
            calls = [
                lambda c=c, j=job, i=i, o=over: c.acquire(j.job_id, f"d{i}", 30, over=o)
                for i, c in enumerate(clients)
            ]
            outcomes = at_once(calls)
            (winner,) = (o for o in outcomes if isinstance(o, Lease))
            assert sum(isinstance(o, ConflictError) for o in outcomes) == 3
            held = store.job(job.job_id)
            assert (held.driver, held.fence) == (winner.driver, winner.fence)
            assert held.fence == (1 if over is None else 2)


@pytest.mark.parametrize("wanted", [JobState.PAUSED, JobState.CANCELLED])
def test_what_is_wanted_waits_for_a_driver_or_comes_at_once(
    store: JobStore, job: Job, wanted: JobState
) -> None:
    lease = store.acquire(job.job_id, "me", 30)
    asked = store.ask_for(job.job_id, wanted)
    assert (asked.state, asked.wanted) == (JobState.RUNNING, wanted)
    assert store.renew(lease, 30).wanted is wanted
    assert store.acquire(job.job_id, "next", 30, over=1).fence == 2
    assert store.job(job.job_id).wanted is wanted
    assert store.ask_for(job.job_id, None).wanted is None
    store.ask_for(job.job_id, wanted)
    second = store.trial_store(job.job_id, Lease(job.job_id, "next", 2))
    running = second.create(TASK)
    done = store.release(Lease(job.job_id, "next", 2), wanted)
    assert (done.state, done.wanted) == (wanted, None)
    left = TrialState.FAILED if wanted is JobState.CANCELLED else TrialState.RUNNING
    assert second.trial(running.number).state is left

    idle = store.create_job("y", {})
    assert (moved := store.ask_for(idle.job_id, wanted)).state is wanted
    assert moved.message == f"{wanted} on request"


def test_asking_ends_a_lease_that_ran_out(store: JobStore, job: Job) -> None:
    lease = store.acquire(job.job_id, "slow", -1)
    log = store.trial_store(job.job_id, lease)
    running = log.create(TASK)
    assert store.ask_for(job.job_id, JobState.PAUSED).state is JobState.PAUSED
    with pytest.raises(ConflictError, match="it is paused"):
        log.finish(running.completed({}))
    with pytest.raises(ConflictError, match="it is paused"):
        store.renew(lease, 30)


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.PAUSED, JobState.CANCELLED}))
def test_only_pausing_and_cancelling_can_be_asked_for(
    store: JobStore, job: Job, state: JobState
) -> None:
    with pytest.raises(InvalidInputError, match="wanted"):
        store.ask_for(job.job_id, state)


@pytest.mark.parametrize("how", ["set_state", "ask_for", "release"])
def test_a_cancelled_job_has_no_running_trials(store: JobStore, job: Job, how: str) -> None:
    log = store.trial_store(job.job_id)
    trials = [log.create(TASK) for _ in range(4)]
    log.finish(trials[1].completed({"m": 1.0}))
    match how:
        case "set_state":
            store.set_state(job.job_id, JobState.CANCELLED)
        case "ask_for":
            store.ask_for(job.job_id, JobState.CANCELLED)
        case _:
            store.release(store.acquire(job.job_id, "me", 30), JobState.CANCELLED)
    done = trials[1].completed({"m": 1.0})
    cancelled = [trials[i].failed("cancelled") for i in (0, 2, 3)]
    assert list(log.trials()) == [cancelled[0], done, *cancelled[1:]]
    new = log.events(after=5)
    assert [e.trial for e in new] == cancelled
    assert [e.sequence for e in new] == [6, 7, 8]
    assert {e.kind for e in new} == {EventKind.FINISHED}


def test_workers_are_given_and_taken_back(store: JobStore, job: Job) -> None:
    assert store.job(job.job_id).workers is None
    for n in (3, 0, None):
        assert store.give_workers(job.job_id, n).workers == n
        assert store.job(job.job_id).workers == n
    with pytest.raises(InvalidInputError, match="workers"):
        store.give_workers(job.job_id, -1)


def test_a_job_is_extended_when_nobody_drives_it(store: JobStore, job: Job) -> None:
    lease = store.acquire(job.job_id, "me", 30)
    with pytest.raises(ConflictError, match="driven by me"):
        store.extend(job.job_id, {"a": 2})
    store.release(lease, JobState.COMPLETED)
    longer = store.extend(job.job_id, {"a": 2})
    assert (longer.state, longer.spec, longer.fence) == (JobState.CREATED, {"a": 2}, 1)
    assert store.job(job.job_id) == longer
    store.ask_for(job.job_id, JobState.CANCELLED)
    with pytest.raises(ConflictError, match="cancelled"):
        store.extend(job.job_id, {"a": 3})


def test_a_deleted_job_is_gone_with_all_it_had(store: JobStore) -> None:
    job = store.create_job("x", {}, owner="deleted", key="k")
    lease = store.acquire(job.job_id, "me", 30)
    log = store.trial_store(job.job_id, lease)
    running = log.create(TASK)
    with pytest.raises(ConflictError, match="driven by me"):
        store.delete_job(job.job_id)
    store.release(lease, JobState.PAUSED)
    store.delete_job(job.job_id)
    for call in (store.job, store.trial_store):
        with pytest.raises(NotFoundError):
            call(job.job_id)
    unleased = store.trial_store(store.create_job("y", {}).job_id)
    assert unleased.create(TASK).number == 0
    for late in (lambda: log.create(TASK), lambda: log.finish(running.completed({}))):
        with pytest.raises(NotFoundError, match="job"):
            late()
    assert store.create_job("x", {}, owner="deleted", key="k").job_id != job.job_id


STATES = st.sampled_from(JobState)
FENCES = st.one_of(st.none(), st.integers(0, 4))
DRIVERS = st.sampled_from(["a", "b"])
OPERATIONS = st.one_of(
    st.tuples(st.just("acquire"), DRIVERS, st.sampled_from([-1.0, 60.0]), FENCES),
    st.tuples(st.just("renew"), DRIVERS, st.integers(0, 4)),
    st.tuples(st.just("release"), DRIVERS, st.integers(0, 4), STATES),
    st.tuples(st.just("ask_for"), st.one_of(st.none(), STATES)),
    st.tuples(st.just("extend"), st.integers(0, 3)),
    st.tuples(st.just("give_workers"), st.integers(-1, 3)),
    st.tuples(st.just("set_state"), STATES),
    st.tuples(st.just("create"), DRIVERS, FENCES),
)


@given(st.lists(OPERATIONS, max_size=25))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_operations_leave_jobs_equal_in_memory_and_sql(
    tmp_path: Path, operations: list[tuple[Any, ...]]
) -> None:
    stores = [MemoryStore(), open_store(f"sqlite:///{tmp_path / uuid.uuid4().hex}.db")]
    ids = [store.create_job("x", {}).job_id for store in stores]
    for operation in operations:
        told = []
        for store, job_id in zip(stores, ids, strict=True):
            fence = store.job(job_id).fence
            try:
                shown = str(apply(store, job_id, operation))
            except NasError as error:
                shown = f"{type(error).__name__}: {error}"
            now = store.job(job_id)
            assert now.fence >= fence
            assert now.state is not JobState.CANCELLED or not running(store, job_id)
            plain = replace(now, job_id="", created_at=0.0, lease_until=None)
            log = store.trial_store(job_id).trials()
            told.append((shown.replace(job_id, ""), plain, now.is_driven(time.time()), log))
        assert told[0] == told[1]


def running(store: JobStore, job_id: str) -> int:
    return store.trial_store(job_id).counts()[TrialState.RUNNING]


def apply(store: JobStore, job_id: str, operation: tuple[Any, ...]) -> object:
    match operation:
        case "acquire", driver, seconds, over:
            return store.acquire(job_id, driver, seconds, over)
        case "renew", driver, fence:
            store.renew(Lease(job_id, driver, fence), 60)
        case "release", driver, fence, state:
            store.release(Lease(job_id, driver, fence), state, "m")
        case "create", driver, fence:
            lease = None if fence is None else Lease(job_id, driver, fence)
            if store.job(job_id).state is not JobState.CANCELLED:
                return store.trial_store(job_id, lease).create(TASK)
        case "extend", n:
            store.extend(job_id, {"n": n})
        case name, argument:
            getattr(store, name)(job_id, argument)
    return None
