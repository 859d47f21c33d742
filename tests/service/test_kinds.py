"""What the API tells of values that nobody measured, of shared weights, devices and the cluster."""

from __future__ import annotations

import httpx
import pytest

from nas.client import Client
from nas.core import Role
from nas.service import Server
from nas.service.launchers import Processes
from predictors.latency import MIN_LESSONS, held_out
from tests.dashboard.made_up import LATENCY, N_DEPLOYED, N_PREDICTED, N_TRAINED, away_job, rich_job
from tests.service.conftest import SPEC, add_trials


@pytest.fixture
def rich(server: Server) -> httpx.Client:
    """Below a job with values of every kind."""
    job_id = rich_job(server)
    return httpx.Client(base_url=f"{server.url}/v1/jobs/{job_id}", timeout=120)


def test_rows_tell_which_values_nobody_measured(rich: httpx.Client) -> None:
    first_away = N_TRAINED - N_DEPLOYED - N_PREDICTED + 1
    for query in ({}, {"sort": "accuracy"}):
        rows = {row["number"]: row for row in rich.get("/table", params=query).json()["items"]}
        assert rows[0]["kinds"] == {} and rows[N_TRAINED]["kinds"] == {}
        assert rows[1]["kinds"] == {"accuracy": "simulated"}
        both = {"accuracy": "simulated", LATENCY: "predicted"}
        assert rows[first_away]["kinds"] == both
        assert set(rows[first_away]["metrics"]) == {"accuracy", LATENCY, "weight_bytes"}


def test_points_tell_how_each_value_came_about_and_a_third_metric(rich: httpx.Client) -> None:
    query = {"x": LATENCY, "y": "accuracy", "color": "weight_bytes"}
    told = rich.get("/points", params=query).json()
    assert told["kinds"][LATENCY].count("predicted") == N_PREDICTED
    by_fidelity = set(zip(told["fidelity"], told["kinds"]["accuracy"], strict=True))
    assert by_fidelity == {("inherited", "simulated"), ("deployed", "measured")}
    assert len(told["color"]) == len(told["x"]) and min(told["color"]) > 1000
    costs = rich.get("/points", params={"x": "weight_bytes", "y": "accuracy"}).json()
    assert set(costs["kinds"]["weight_bytes"]) == {"computed"} and costs["color"] is None


def test_best_values_tell_how_they_came_about(rich: httpx.Client, server: Server) -> None:
    finalists = rich.get("/summary").json()
    assert finalists["fidelity"] == "deployed" and finalists["kinds"] == {}
    job_id = rich.base_url.path.strip("/").rpartition("/")[2]
    away = away_job(server, job_id)
    summary = httpx.get(f"{server.url}/v1/jobs/{away}/summary").json()
    assert summary["kinds"] == {"accuracy": "simulated", LATENCY: "predicted"}
    asked = {"job": [job_id, away]}
    both = httpx.get(f"{server.url}/v1/compare", params=asked).json()["jobs"]
    kinds = [{m: set(told) for m, told in job["kinds"].items()} for job in both]
    assert kinds[0] == {
        "accuracy": {"measured"},
        LATENCY: {"measured"},
        "weight_bytes": {"computed"},
    }
    assert kinds[1] == {
        "accuracy": {"simulated"},
        LATENCY: {"predicted"},
        "weight_bytes": {"computed"},
    }
    assert all(len(j["kinds"]["accuracy"]) == len(j["numbers"]) > 0 for j in both)


def test_a_trial_tells_how_each_metric_came_about(rich: httpx.Client) -> None:
    away = N_TRAINED - N_DEPLOYED
    told = {m: s["kind"] for m, s in rich.get(f"/trials/{away}").json()["sources"].items()}
    assert told == {"accuracy": "simulated", LATENCY: "predicted", "weight_bytes": "computed"}
    assert rich.get(f"/trials/{away}").json()["sources"][LATENCY]["on"].startswith("pi, which")


def test_layers_tell_what_they_take_where_that_was_timed(rich: httpx.Client) -> None:
    layers = rich.get(f"/trials/{N_TRAINED}/layers", timeout=60).json()
    times = {layer["name"]: layer["ms"] for layer in layers}
    assert times["stem.conv"] == pytest.approx(0.03), "its quantizer belongs to it"
    assert times["stages.0.blocks.0.depthwise.conv"] == 0.04
    assert sum(times.values()) == pytest.approx(0.096), "the rest goes between layers"
    assert {layer["ms"] for layer in rich.get("/trials/1/layers", timeout=60).json()} == {None}


def test_shared_weights_are_told_epoch_by_epoch(
    rich: httpx.Client, server: Server, client: Client
) -> None:
    told = rich.get("/supernet").json()
    assert [epoch["epoch"] for epoch in told["history"]] == list(range(1, 31))
    assert told["number"] == 0
    job = client.submit(**{**SPEC, "seed": 5})
    add_trials(server.workspace.store, job.job_id, 2, 2)
    none = httpx.get(f"{server.url}/v1/jobs/{job.job_id}/supernet").json()
    assert none["history"] == [] and none["number"] is None


def test_tau_over_time_ends_with_that_of_the_analysis(
    rich: httpx.Client, server: Server, client: Client
) -> None:
    analysis = rich.get("/analysis").json()["prediction"]
    told = rich.get("/tau").json()["metrics"]
    assert told.keys() == analysis.keys() == {"accuracy", LATENCY}
    for metric, curve in told.items():
        assert curve["n"] == sorted(set(curve["n"])) and curve["n"][0] == 10
        assert curve["n"][-1] == N_TRAINED - N_DEPLOYED
        assert curve["tau"][-1] == pytest.approx(analysis[metric]["tau"])
    assert analysis[LATENCY]["kinds"].count("predicted") == N_PREDICTED
    fresh = client.submit(**{**SPEC, "seed": 5})
    none = httpx.get(f"{server.url}/v1/jobs/{fresh.job_id}/tau").json()
    assert none == {"metrics": {}}


def test_a_devices_calibration_is_that_of_its_owners_jobs(
    rich: httpx.Client, server: Server
) -> None:
    at = f"{server.url}/v1/devices/pi/calibration"
    told = httpx.get(at, timeout=120).json()
    assert len(told["measured"]) == N_TRAINED - N_PREDICTED
    assert 0.0 < told["error"] < 0.1 and told["tau"] > 0.5
    assert httpx.get(f"{server.url}/v1/devices/nobody/calibration").status_code == 404
    _, secret = server.workspace.store.accounts().create_token("t", "stranger", Role.USER)
    headers = {"Authorization": f"Bearer {secret}"}
    theirs = httpx.get(at, headers=headers, timeout=120).json()
    assert theirs["measured"] == [] and theirs["needed"] == MIN_LESSONS
    assert held_out([]) is None


def test_the_cluster_is_told_by_whoever_starts_jobs(server: Server, client: Client) -> None:
    nobody = client.cluster()
    assert nobody["nodes"] == [] and not nobody["starts_jobs"] and nobody["workers"] is None
    server.app.state.service.launcher = Processes(server.workspace.home, "sqlite:///x", 5)
    told = client.cluster()
    assert told["workers"] == 5 and told["executor"] == "local" and told["starts_jobs"]
    assert [node["n_cpus"] for node in told["nodes"]] == [5]
