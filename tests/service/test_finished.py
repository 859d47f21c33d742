"""Columns kept by the service, and the routes that answer from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.series import best_so_far, hypervolume_trace
from nas.client import Client
from nas.core import (
    Candidate,
    Evaluate,
    EventKind,
    Fidelity,
    Goals,
    TrainShared,
    front_of,
)
from nas.core.wire import trial_to_json
from nas.service import Server
from nas.service.finished import FinishedCache
from nas.stores import MemoryStore
from tests.service.conftest import SPEC, add_trials

METRICS = ("accuracy", "weight_bytes")
GOALS = Goals.parse(SPEC["objectives"])  # type: ignore[arg-type]
KINDS = st.tuples(
    st.sampled_from([None, *Fidelity]),
    st.sampled_from([1.0, 0.5]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["complete", "fail", "leave", "lack"]),
)


def test_news_alone_is_read_and_the_oldest_is_forgotten() -> None:
    store, cache = MemoryStore(), FinishedCache(most_rows=15)
    ids = [store.create_job("x", {}).job_id for _ in range(3)]
    for job_id in ids:
        add_trials(store, job_id, 6, 5)
        assert len(cache.of(job_id, store.trial_store(job_id), METRICS)) == 5
    kept = {job_id: cache.of(job_id, store.trial_store(job_id), METRICS) for job_id in ids}
    add_trials(store, ids[1], 5, 3)
    grown = cache.of(ids[1], store.trial_store(ids[1]), METRICS)
    assert grown.number.tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert cache.of(ids[2], store.trial_store(ids[2]), METRICS) is kept[ids[2]]
    assert cache.of(ids[0], store.trial_store(ids[0]), METRICS) is not kept[ids[0]]


@given(st.lists(KINDS, max_size=25))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_front_and_progress_are_those_of_the_whole_trials(
    server: Server,
    client: Client,
    kinds: list[tuple[Fidelity | None, float, int, int, str]],
) -> None:
    store = server.workspace.store
    job_id = store.create_job("x", {**SPEC, "constraints": []}).job_id
    log = store.trial_store(job_id)
    for i, (fidelity, effort, x, y, what) in enumerate(kinds):
        candidate = Candidate({"w": i}, f"{i:016x}")
        shared = TrainShared("supernet", 1)
        trial = log.create(Evaluate(candidate, fidelity, effort) if fidelity else shared)
        metrics = {"accuracy": x / 3, "weight_bytes": 10.0 + y, "more": 1.0}
        if what == "lack":
            del metrics["accuracy"]
        if what == "fail":
            log.finish(trial.failed("broken"))
        elif what != "leave":
            log.finish(trial.completed(metrics, {"accuracy": {"kind": "made up"}}))
    finished = [e for e in log.events() if e.kind is EventKind.FINISHED]
    trials = [e.trial for e in finished]
    body = client._get(f"/jobs/{job_id}/front")
    assert body["trials"] == [trial_to_json(t) for t in front_of(trials, GOALS).trials]
    progress = client._get(f"/jobs/{job_id}/progress")
    fidelity = progress["fidelity"]
    kept = [e for e in finished if fidelity and e.trial.scores(Fidelity(fidelity))]
    n_other = max(sum(t.scores(f) for t in trials) for f in (Fidelity.INHERITED, Fidelity.TRAINED))
    assert len(kept) == n_other
    assert progress["at"] == [e.at for e in kept]
    shown = [e.trial for e in kept]
    trace, best = hypervolume_trace(shown, GOALS), best_so_far(shown, GOALS)
    assert progress["hypervolume"] == pytest.approx(trace.tolist())
    for name, values in progress["best"].items():
        assert values == [None if np.isnan(v) else v for v in best[name]]
