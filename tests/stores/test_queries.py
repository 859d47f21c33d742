"""Submitting once, listing and paging: jobs and trials."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

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
    JobQuery,
    JobState,
    JobStore,
    NotFoundError,
    TrainShared,
    Trial,
    TrialQuery,
    TrialState,
    TrialStore,
)
from nas.stores import open_store

FIDELITIES = (Fidelity.TRAINED, Fidelity.INHERITED)
SETTINGS = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def somebody() -> str:
    """An owner nobody else has: PostgreSQL's database is one for all tests here."""
    return uuid.uuid4().hex


def test_owner_and_priority_are_kept(store: JobStore) -> None:
    owner = somebody()
    job = store.create_job("x", {}, owner, 7)
    assert (job.owner, job.priority) == (owner, 7)
    assert store.job(job.job_id) == job


def test_a_key_makes_submitting_idempotent(store: JobStore) -> None:
    ann, ben = somebody(), somebody()
    job = store.create_job("x", {"a": [1, {"b": 2}], "c": 3}, ann, key="k")
    store.set_state(job.job_id, JobState.FAILED)
    again = store.create_job("x", {"c": 3, "a": (1, {"b": 2})}, ann, key="k")
    assert again == store.job(job.job_id)
    with pytest.raises(ConflictError, match=job.job_id):
        store.create_job("x", {"a": 2}, ann, key="k")
    others = [
        store.create_job("x", {}, ben, key="k"),
        store.create_job("x", {}, ann, key="l"),
        store.create_job("x", {}, ann),
        store.create_job("x", {}, ann),
    ]
    assert len({job.job_id, *(other.job_id for other in others)}) == 5
    for long in ({"name": "n" * 201}, {"owner": "o" * 201}, {"key": "k" * 201}):
        with pytest.raises(InvalidInputError, match="200 characters"):
            store.create_job(**{"name": "x", "spec": {}, **long})  # type: ignore[arg-type]


def test_concurrent_submits_of_one_key_give_one_job(store: JobStore, url: str) -> None:
    clients = [store if url == "memory" else open_store(url) for _ in range(6)]
    owner, barrier = somebody(), Barrier(6)

    def submit(client: JobStore) -> str:
        barrier.wait()
        return client.create_job("x", {"a": 1}, owner, key="k").job_id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(submit, clients))
    assert [job.job_id for job in store.jobs(JobQuery(owner=owner))] == [*ids]


def test_jobs_are_found_by_state_owner_and_name(store: JobStore) -> None:
    ann, ben = somebody(), somebody()
    a = store.create_job("Digits Élan 100%", {}, ann)
    b = store.create_job("faces_x", {}, ann)
    c = store.create_job("digits", {}, ben)
    store.set_state(b.job_id, JobState.FAILED)

    def found(**query: object) -> list[str]:
        return [job.job_id for job in store.jobs(JobQuery(**query))]  # type: ignore[arg-type]

    assert found(owner=ann) == [b.job_id, a.job_id]
    assert found(owner=ann, states=(JobState.CREATED,)) == [a.job_id]
    assert found(owner=ann, states=(JobState.CREATED, JobState.FAILED)) == [b.job_id, a.job_id]
    assert found(owner=ann, name="DIGITS") == [a.job_id]
    assert found(owner=ann, name="éLAN") == [a.job_id]
    assert found(owner=ann, name="0%") == [a.job_id]
    assert found(owner=ann, name="s_") == [b.job_id]
    assert found(owner=ben, name="%") == []
    assert found(states=(JobState.CREATED,), limit=1) == [c.job_id]
    assert found(owner=ann, after=b.job_id) == [a.job_id]
    with pytest.raises(NotFoundError, match="zz"):
        found(after="zz")
    for query in (JobQuery, TrialQuery):
        with pytest.raises(InvalidInputError, match="limit"):
            query(limit=0)


@given(st.integers(1, 8), st.lists(st.integers(0, 2), max_size=12), st.integers(1, 4))
@SETTINGS
def test_job_pages_cover_each_job_once_while_others_come(
    store: JobStore, n: int, added: list[int], limit: int
) -> None:
    owner = somebody()
    at_first = [store.create_job("x", {}, owner).job_id for _ in range(n)]
    seen: list[Job] = []
    later = iter(added)
    while page := store.jobs(
        JobQuery(owner=owner, after=seen[-1].job_id if seen else None, limit=limit)
    ):
        assert len(page) <= limit
        seen.extend(page)
        for _ in range(next(later, 0)):
            store.create_job("new", {}, owner)
    assert [job.job_id for job in seen] == at_first[::-1]
    assert len(store.jobs(JobQuery(owner=owner))) >= n


def add(log: TrialStore, kind: int) -> None:
    """One more trial; `kind % 3` is what becomes of it, `kind % 4` what it is."""
    candidate = Candidate({"width": kind}, f"{kind % 5:016x}")
    shared = kind % 4 == 3
    task = TrainShared("supernet", 1) if shared else Evaluate(candidate, FIDELITIES[kind % 2])
    trial = log.create(task)
    if kind % 3 == 1:
        log.finish(trial.completed({"m": 1.0}))
    elif kind % 3 == 2:
        log.finish(trial.failed("x"))


KINDS = st.lists(st.integers(0, 59), max_size=12)
QUERIES = st.builds(
    TrialQuery,
    states=st.lists(st.sampled_from(TrialState), max_size=2, unique=True).map(tuple),
    fidelities=st.lists(st.sampled_from(FIDELITIES), max_size=2, unique=True).map(tuple),
    candidate_key=st.one_of(st.none(), st.integers(0, 5).map("{:016x}".format)),
    newest_first=st.booleans(),
    limit=st.integers(1, 4),
)


@given(KINDS, st.lists(st.integers(0, 59), max_size=3), QUERIES)
@SETTINGS
def test_trial_pages_cover_each_match_once_while_others_come(
    store: JobStore, kinds: list[int], added: list[int], query: TrialQuery
) -> None:
    log = store.trial_store(store.create_job("x", {}).job_id)
    for kind in kinds:
        add(log, kind)
    seen: list[Trial] = []
    later = iter(added)
    while page := log.page(
        TrialQuery(
            query.states,
            query.fidelities,
            query.candidate_key,
            seen[-1].number if seen else None,
            query.newest_first,
            query.limit,
        )
    ):
        assert query.limit is not None and len(page) <= query.limit
        seen.extend(page)
        if (kind := next(later, None)) is not None:
            add(log, kind)

    def fits(trial: Trial) -> bool:
        key = trial.candidate.key if trial.candidate else None
        return (
            (not query.states or trial.state in query.states)
            and (not query.fidelities or trial.fidelity in query.fidelities)
            and query.candidate_key in (None, key)
        )

    now = log.trials()
    numbers = [trial.number for trial in seen]
    assert numbers == sorted(set(numbers), reverse=query.newest_first)
    assert set(numbers) >= {t.number for t in now[: len(kinds)] if fits(t)}
    assert all(fits(trial) and trial == now[trial.number] for trial in seen)
    counts = {state: sum(t.state is state for t in now) for state in TrialState}
    assert log.counts() == counts


def test_one_trial_and_parts_of_the_log_are_read(store: JobStore) -> None:
    log = store.trial_store(store.create_job("x", {}).job_id)
    assert log.last_sequence() == 0
    assert log.counts() == dict.fromkeys(TrialState, 0)
    for kind in range(6):
        add(log, kind)
    assert log.last_sequence() == len(log.events()) == 10
    assert list(log.events(after=3, limit=2)) == list(log.events())[3:5]
    assert list(log.events(limit=100)) == list(log.events())
    assert [log.trial(n) for n in range(6)] == list(log.trials())
    for number in (-1, 6):
        with pytest.raises(NotFoundError, match="trial"):
            log.trial(number)


def test_finished_events_come_without_what_is_large(store: JobStore) -> None:
    log = store.trial_store(store.create_job("j", {}).job_id)
    numbers = [
        log.create(Evaluate(Candidate({"w": i}, str(i)), Fidelity.TRAINED)) for i in range(4)
    ]
    for trial in numbers[:2]:
        log.finish(trial.completed({"a": 1.0}, {"a": {"kind": "measured"}}, {"onnx": "f"}, 2.0))
    log.finish(numbers[3].failed("why"))
    full = [e for e in log.events() if e.kind is EventKind.FINISHED]
    lean = [replace(e, trial=replace(e.trial, provenance={}, artifacts={})) for e in full]
    assert list(log.finished()) == lean
    assert list(log.finished(after=lean[0].sequence, limit=1)) == lean[1:2]
    assert list(log.finished(after=log.last_sequence())) == []


def test_trials_are_found_by_their_numbers(store: JobStore) -> None:
    log = store.trial_store(store.create_job("x", {}).job_id)
    for _ in range(5):
        log.create(TrainShared("supernet", 1))
    assert [t.number for t in log.page(TrialQuery(numbers=(4, 1, 9)))] == [1, 4]
    assert log.page(TrialQuery(numbers=())) == []
    with pytest.raises(InvalidInputError, match="numbers"):
        TrialQuery(numbers=range(20_000))
