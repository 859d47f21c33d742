"""Columns over finished trials, and trials by their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.core import (
    Candidate,
    Evaluate,
    EventKind,
    Fidelity,
    Finished,
    InvalidInputError,
    JobStore,
    TrainShared,
    TrialQuery,
    TrialState,
    TrialStore,
)
from nas.core.finished import NO_FIDELITY

SETTINGS = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ("accuracy", "latency_ms@jetson-1.5", "größe")
METRICS = st.dictionaries(st.sampled_from(NAMES), st.floats(allow_nan=False, allow_infinity=False))
TASKS = st.one_of(
    st.just(TrainShared("supernet", 2)),
    st.builds(
        Evaluate,
        st.just(Candidate({"width": 8}, "00000000000000ff")),
        st.sampled_from(Fidelity),
        st.sampled_from((1.0, 0.5, 1 / 3)),
    ),
)
TRIALS = st.lists(st.tuples(TASKS, st.one_of(st.none(), st.just("broken"), METRICS)), max_size=8)


def fill(log: TrialStore, trials: list[tuple[object, object]], backwards: bool) -> None:
    created = [(log.create(task), result) for task, result in trials]  # type: ignore[arg-type]
    for trial, result in reversed(created) if backwards else created:
        if isinstance(result, str):
            log.finish(trial.failed(result))
        elif result is not None:
            log.finish(trial.completed(result))  # type: ignore[arg-type]


def require_like_events(found: Finished, log: TrialStore, after: int) -> None:
    """Each column says what the log's finished events say."""
    events = [e for e in log.events(after) if e.kind is EventKind.FINISHED]
    trials = [e.trial for e in events]
    assert found.sequence.tolist() == [e.sequence for e in events]
    assert found.at.tolist() == [e.at for e in events]
    assert found.number.tolist() == [t.number for t in trials]
    assert found.completed.tolist() == [t.state is TrialState.COMPLETED for t in trials]
    ranks = [t.fidelity.rank if t.fidelity else NO_FIDELITY for t in trials]
    assert found.rank.tolist() == ranks
    assert found.effort.tolist() == [t.effort for t in trials]
    for name in NAMES[:2]:
        expected = [t.metrics.get(name, np.nan) for t in trials]
        np.testing.assert_array_equal(found.metrics[name], np.array(expected, dtype=np.float64))
    for fidelity in Fidelity:
        assert [trials[i] for i in found.scored(fidelity)] == [
            t for t in trials if t.scores(fidelity)
        ]


@given(TRIALS, st.booleans(), st.integers(0, 20))
@SETTINGS
def test_columns_are_what_the_finished_events_say(
    store: JobStore, trials: list[tuple[object, object]], backwards: bool, after: int
) -> None:
    log = store.trial_store(store.create_job("x", {}).job_id)
    fill(log, trials, backwards)
    found = log.finished(NAMES[:2], after)
    assert tuple(found.metrics) == NAMES[:2]
    require_like_events(found, log, after)
    assert len(log.finished(NAMES[:2], found.last or after)) == 0
    first = log.finished(NAMES[:2])
    fill(log, trials, not backwards)
    require_like_events(first.then(log.finished(NAMES[:2], first.last)), log, 0)


def test_trials_are_found_by_their_numbers(store: JobStore) -> None:
    log = store.trial_store(store.create_job("x", {}).job_id)
    task = Evaluate(Candidate({"width": 8}, "00000000000000ff"), Fidelity.TRAINED)
    for _ in range(6):
        log.create(task)
    assert [t.number for t in log.page(TrialQuery(numbers=(4, 1, 9)))] == [1, 4]
    assert list(log.page(TrialQuery(numbers=()))) == []
    assert len(log.page(TrialQuery(numbers=range(10_000)))) == 6
    with pytest.raises(InvalidInputError, match="10,000"):
        TrialQuery(numbers=range(10_001))
