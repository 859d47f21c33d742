"""Jobs whose goals name devices with agents."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from nas import jobs
from nas.core import Fidelity, InvalidInputError, UnknownNameError
from nas.spec import JobSpec
from nas.workspace import Workspace
from tests.workers.test_remote import profile

SPEC = {
    "data": "digits",
    "data_limit": 120,
    "space": {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
    "strategy": "random",
    "objectives": ["accuracy", "latency_ms@pi"],
    "constraints": ["latency_ms@pi<=100"],
    "devices": ["pi"],
    "budget": {"trials": 2, "finalists": 1},
    "training": {"epochs": 1, "deployed_epochs": 0, "finetune_epochs": 0, "latency_runs": 30},
}


def test_metrics_may_name_the_jobs_devices_alone() -> None:
    spec = JobSpec.parse(SPEC)
    assert spec.remote_devices == ("pi",)
    with pytest.raises(UnknownNameError, match="latency_ms@pi"):
        jobs.checked(JobSpec.parse({**SPEC, "objectives": ["latency_ms@tpu"]}), "local")
    for wrong in (["a b"], [], ["pi", "pi"]):
        with pytest.raises(InvalidInputError, match="device"):
            JobSpec.parse({**SPEC, "devices": wrong})


def test_a_device_that_never_registered_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    spec = JobSpec.parse(SPEC)
    with pytest.raises(UnknownNameError, match="known: cpu"):
        jobs.checked(spec, "local", workspace)
    workspace.store.devices().register("pi", "one", "lab", {}, 60)
    jobs.submit(workspace, jobs.checked(spec, "local", workspace))


@pytest.mark.slow
@pytest.mark.parametrize("url", ["memory", None])
def test_a_search_waits_for_its_device(tmp_path: Path, url: str | None) -> None:
    workspace = Workspace.open(tmp_path, url)
    devices = workspace.store.devices()
    devices.register("pi", "one", "lab", {}, 600)
    over = threading.Event()

    def serve() -> None:
        n = 0
        while not over.is_set():
            work = devices.claim("pi", "one", 600)
            if work is None:
                time.sleep(0.02)
                continue
            n += 1
            devices.report(work.work_id, work.claim or "", profile(10.0 + n).to_json())

    thread = threading.Thread(target=serve)
    thread.start()
    problem = jobs.checked(JobSpec.parse(SPEC), "local", workspace)
    job = jobs.submit(workspace, problem)
    front = jobs.run(workspace, job, problem, "local")
    over.set()
    thread.join()
    trials = workspace.store.trial_store(job.job_id).trials()
    assert all(10.0 < trial.metrics["latency_ms@pi"] < 20.0 for trial in trials)
    (model,) = front
    assert model.trial.fidelity is Fidelity.DEPLOYED
    about = model.trial.provenance["latency_ms@pi"]
    assert (about["kind"], about["conditions"]["device"]) == ("measured", "pi")
    assert all(w.about["features"]["latency_ratio@cpu"] > 0 for w in devices.works())


@pytest.mark.slow
def test_inherited_scores_go_on_by_predictions_when_the_device_is_gone(tmp_path: Path) -> None:
    """Eight candidates are timed on pi, then it vanishes: the others and the finalist say so."""
    workspace = Workspace.open(tmp_path)
    devices = workspace.store.devices()
    devices.register("pi", "one", "lab", {}, 600)
    spec = {
        **SPEC,
        "supernet": {"epochs": 1},
        "budget": {"trials": 11, "finalists": 1},
        "constraints": [],
    }
    problem = jobs.checked(JobSpec.parse(spec), "local", workspace)
    job = jobs.submit(workspace, problem)

    def serve() -> None:
        n = 0
        while n < 8:
            work = devices.claim("pi", "one", 600)
            if work is None:
                time.sleep(0.02)
                continue
            n += 1
            took = 1e-5 * work.about["features"]["macs"]
            devices.report(work.work_id, work.claim or "", profile(took).to_json())
        devices.beat("pi", "one", -3600.0)

    thread = threading.Thread(target=serve)
    thread.start()
    front = jobs.run(workspace, job, problem, "local")
    thread.join()
    scored = [t for t in workspace.store.trial_store(job.job_id).trials() if t.metrics.get("macs")]
    inherited = [t for t in scored if t.fidelity is Fidelity.INHERITED]
    kinds = [t.provenance["latency_ms@pi"]["kind"] for t in inherited]
    assert kinds == ["measured"] * 8 + ["predicted"] * 3
    for trial in inherited[8:]:
        about = trial.provenance["latency_ms@pi"]
        assert about["n_measured"] == 8 and about["error"] >= 0 and about["std"] > 0
        assert trial.metrics["latency_ms@pi"] == pytest.approx(1e-5 * trial.metrics["macs"], rel=1)
    (model,) = front
    assert model.trial.fidelity is Fidelity.DEPLOYED
    assert model.trial.provenance["latency_ms@pi"]["kind"] == "predicted"
    assert model.trial.provenance["latency_ms"]["kind"] == "measured"
