"""What the dashboard reads: pages of trials, thinned points, comparison, layers."""

from __future__ import annotations

import itertools
import json

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.series import front_history, hypervolumes
from nas.client import Client
from nas.core import (
    Candidate,
    Evaluate,
    Fidelity,
    Goals,
    JobState,
    JobStore,
    TrainShared,
    non_dominated,
)
from nas.service import Server
from nas.service.thinning import thinned
from nas.spec import JobSpec
from tests.service.conftest import SPEC, add_trials


@pytest.fixture
def http(server: Server) -> httpx.Client:
    spec = JobSpec.parse({**SPEC, "constraints": ["weight_bytes<=990"]}).to_json()
    job = server.workspace.store.create_job("made up", spec)
    add_trials(server.workspace.store, job.job_id, 30, 28)
    store = server.workspace.store.trial_store(job.job_id)
    store.finish(store.trial(28).failed("out of memory"))
    base = f"{server.url}/v1/jobs/{job.job_id}"
    return httpx.Client(base_url=base, timeout=30)


def numbers(http: httpx.Client, **query: object) -> list[int]:
    answer = http.get("/table", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return [row["number"] for row in answer.json()["items"]]


def test_the_table_is_sorted_filtered_and_paged(http: httpx.Client) -> None:
    accuracy = {i: (i * 7 % 11) / 11 for i in range(28)}
    assert numbers(http, limit=3) == [29, 28, 27]
    assert numbers(http, limit=3, offset=29) == [0]
    assert numbers(http, limit=3, offset=30) == []
    assert numbers(http, descending="false", limit=2, offset=1) == [1, 2]
    assert numbers(http, state="failed") == [28]
    assert numbers(http, state="running") == [29]
    best = sorted(accuracy, key=lambda i: -accuracy[i])
    found = numbers(http, sort="accuracy", state="completed")
    assert [accuracy[i] for i in found] == [accuracy[i] for i in best]
    assert numbers(http, sort="accuracy")[-1] == 28
    assert numbers(http, sort="w", state="completed", limit=1) == [27]
    assert sorted(numbers(http, where=["w>=5", "w!=7", "w<9"])) == [5, 6, 8]
    assert sorted(numbers(http, where="accuracy>=0.9")) == [3, 14, 25]
    assert numbers(http, text="memory") == [28]
    assert numbers(http, text="17") == [23, 17]  # of 23 it is a part of the key
    assert http.get("/table", params={"where": "w=3"}).json()["total"] == 1


@pytest.mark.parametrize("where", ["nonsense", "w>=many", "unknown>=1", "w~3"])
def test_a_wrong_condition_is_refused(http: httpx.Client, where: str) -> None:
    answer = http.get("/table", params={"where": where})
    assert answer.status_code == 422 and answer.json()["error"]["expected"]


def test_points_tell_the_front_at_every_time(http: httpx.Client) -> None:
    body = http.get("/points", params={"x": "weight_bytes", "y": "accuracy"}).json()
    assert body["n_points"] == len(body["number"]) == 28
    goals = Goals.parse(["accuracy", "weight_bytes"], ["weight_bytes<=990"])
    columns = {"accuracy": np.array(body["y"]), "weight_bytes": np.array(body["x"])}
    losses, violations = goals.losses(columns), goals.violations(columns, 28)
    assert body["feasible"] == (violations == 0).tolist()
    for last in range(1, 29):
        expected = non_dominated(losses[:last], violations[:last])
        on = [
            o <= last and e and (left is None or left > last)
            for o, e, left in zip(body["order"], body["entered"], body["left"], strict=True)
        ]
        assert on == [*expected.tolist(), *[False] * (28 - last)]


def test_points_are_thinned_but_never_those_of_the_front(http: httpx.Client) -> None:
    full = http.get("/points", params={"x": "weight_bytes", "y": "accuracy"}).json()
    thin = http.get("/points", params={"x": "weight_bytes", "y": "accuracy", "limit": 1}).json()
    entered = [n for n, e in zip(full["number"], full["entered"], strict=True) if e]
    assert set(entered) <= set(thin["number"]) and len(thin["number"]) <= len(entered) + 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_thinning_keeps_the_marked_and_about_as_many_as_asked(
    seed: int, n: int, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    x, y, keep = rng.normal(size=n), rng.integers(0, 5, n).astype(float), rng.random(n) < 0.05
    out = thinned(x, y, keep, limit)
    assert not (out & keep).any()
    assert (~out).sum() <= max(limit, keep.sum() + 1) if n > limit else not out.any()


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=60),
)
@settings(max_examples=80, deadline=None)
def test_the_history_of_a_front_is_that_of_its_prefixes(
    points: list[tuple[int, int, bool]],
) -> None:
    losses = np.array([p[:2] for p in points], dtype=float).reshape(-1, 2)
    violations = np.array([float(p[2]) for p in points])
    came, went = front_history(losses, violations)
    trace = hypervolumes(losses, violations)
    for last in range(1, len(points) + 1):
        here = np.arange(len(points)) < last
        expected = non_dominated(losses[:last], violations[:last])
        assert (here & came & (went >= last)).tolist()[:last] == expected.tolist()
    assert (np.diff(trace) >= -1e-12).all()


def test_progress_and_summary_agree(http: httpx.Client) -> None:
    progress, summary = http.get("/progress").json(), http.get("/summary").json()
    assert summary["best"]["accuracy"] == progress["best"]["accuracy"][-1]
    assert summary["trials"] == {"running": 1, "completed": 28, "failed": 1}
    assert summary["n_evaluated"] == 29 and summary["asked"] == 4
    assert progress["hypervolume"][-1] == 1.0


def test_decisions_are_columns_of_places(http: httpx.Client) -> None:
    body = http.get("/decisions", params={"limit": 10}).json()
    assert len(body["number"]) <= 10
    (decision,) = body["decisions"]
    assert decision["options"] == sorted(decision["options"])
    chosen = [decision["options"][i] for i in decision["values"]]
    assert chosen == body["number"]


def test_jobs_are_compared_in_one_box(server: Server, client: Client) -> None:
    jobs = [client.submit(**{**SPEC, "seed": seed}).job_id for seed in range(2)]
    for job_id, n in zip(jobs, (5, 20), strict=True):
        add_trials(server.workspace.store, job_id, n, n)
    body = httpx.get(f"{server.url}/v1/compare", params={"job": jobs}).json()
    few, many = body["jobs"]
    assert few["n"] == [1, 2, 3, 4, 5] and many["n"][-1] == 20
    np.testing.assert_allclose(few["hypervolume"], many["hypervolume"][:5])
    assert many["hypervolume"][-1] > few["hypervolume"][-1]
    other = client.submit(**{**SPEC, "objectives": ["accuracy"]}).job_id
    answer = httpx.get(f"{server.url}/v1/compare", params={"job": [*jobs, other]})
    assert answer.json()["error"]["code"] == "invalid_input"


def real_trials(store: JobStore, job_id: str, n: int) -> None:
    """Made-up results of real candidates: wider is better."""
    trials = store.trial_store(job_id)
    for i in range(n):
        width = (12, 16, 24)[i % 3]
        values = {
            "stage1.depth": 1, "stage1.width": width, "stage1.kernel": 3 + 2 * (i % 2),
            "stage1.expansion": 2, "stage1.se": False, "stage1.keep": 1.0,
            "stage1.weight_bits": 32,
        }  # fmt: skip
        trial = trials.create(Evaluate(Candidate(values, f"{i:016x}"), Fidelity.TRAINED))
        metrics = {"accuracy": width / 30 + i / 1000, "weight_bytes": 100.0 * width}
        trials.finish(trial.completed(metrics))


def test_analysis_names_the_decision_that_matters(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    at = f"{server.url}/v1/jobs/{job.job_id}"
    assert httpx.get(f"{at}/analysis").json()["importance"] == {}
    real_trials(server.workspace.store, job.job_id, 24)
    body = httpx.get(f"{at}/analysis", timeout=60).json()
    assert next(iter(body["importance"]["accuracy"])) == "stage1.width"
    told = body["prediction"]["accuracy"]
    assert len(told["predicted"]) == body["n_trials"] == 24 and told["tau"] > 0.3
    layers = httpx.get(f"{at}/trials/2/layers", timeout=60).json()
    assert layers[0]["kind"] == "convolution" and layers[-1]["kind"] == "linear"
    assert [x["n_out"] for x in layers if x["part"] == "stage1"][-1] == 24
    assert list(dict.fromkeys(x["part"] for x in layers)) == [
        "stem",
        "stage1",
        "head",
        "classifier",
    ]
    assert all(a["n_out"] == b["n_in"] for a, b in itertools.pairwise(layers))
    card = httpx.get(f"{at}/trials/2/card").json()
    assert card["candidate"]["key"] == f"{2:016x}"


def test_shared_training_is_no_candidate(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    store = server.workspace.store.trial_store(job.job_id)
    store.finish(store.create(TrainShared("supernet", 2)).completed({"loss": 1.0}))
    at = f"{server.url}/v1/jobs/{job.job_id}"
    assert httpx.get(f"{at}/table", params={"sort": "loss"}).json()["items"][0]["method"]
    for name in ("layers", "card"):
        assert httpx.get(f"{at}/trials/0/{name}").status_code == 422
    assert httpx.get(f"{at}/learned").json()["history"] == []


def test_a_specification_is_checked_without_being_stored(server: Server, client: Client) -> None:
    check = f"{server.url}/v1/check"
    assert httpx.post(check, json=SPEC, timeout=30).status_code == 204
    wrong = httpx.post(check, json={**SPEC, "objectives": ["nope"]}, timeout=30)
    assert wrong.status_code == 422 and wrong.json()["error"]["field"] == "objectives"
    assert client.jobs() == []


def test_live_news_name_jobs_that_changed_and_went(server: Server, client: Client) -> None:
    job = client.submit(**SPEC)
    changes = [
        lambda: add_trials(server.workspace.store, job.job_id, 1, 1),
        lambda: client.job(job.job_id).delete(),
    ]
    seen = []
    with httpx.stream("GET", f"{server.url}/v1/live?job={job.job_id}", timeout=20) as stream:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                seen.append(line.removeprefix("event: "))
                if changes:
                    changes.pop(0)()
            if "gone" in seen:
                break
    assert seen[:2] == ["job", "job"] and seen[-1] == "gone"


def test_live_news_of_all_jobs_begin_with_each_as_it_stands(server: Server, client: Client) -> None:
    ids = {client.submit(**{**SPEC, "seed": seed}).job_id for seed in range(2)}
    server.workspace.store.set_state(min(ids), JobState.RUNNING)
    seen = {}
    with httpx.stream("GET", f"{server.url}/v1/live", timeout=20) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                body = json.loads(line.removeprefix("data: "))
                seen[body["job_id"]] = body["last_sequence"]
            if seen.keys() == ids:
                break
    assert seen == {min(ids): 0, max(ids): None}
