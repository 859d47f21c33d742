"""Jobs as Ray jobs on the cluster a server starts, and what dies there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from nas.client import Client
from nas.core import JobState, TrialState
from tests.service.conftest import SPEC
from tests.service.processes import driver_of, is_there, keys, serving
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    with serving(home, "--ray", "auto", "--workers", "2") as (_, address):
        yield address


def ray_jobs(home: Path) -> list[dict[str, object]]:
    dashboard = json.loads((home / "ray.json").read_text())["dashboard"]
    token = (home / "ray.token").read_text()
    request = urllib.request.Request(
        f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, object]] = json.loads(answer.read())
    return found


def trial_workers(job_id: str) -> list[int]:
    """Processes that run a trial of the job now, by the title Ray gives them."""
    found = subprocess.run(["pgrep", "-f", f"^ray::.*{job_id} #"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def test_a_job_is_a_ray_job_and_survives_its_worker_and_its_head(url: str, home: Path) -> None:
    spec = {**SPEC, "training": {"epochs": 40}, "budget": {"trials": 4, "finalists": 1}}
    with Client(url) as client:
        job = client.submit(**spec, name="on ray")
        until(lambda: bool(trial_workers(job.job_id)), 90)
        (ray_job,) = [j for j in ray_jobs(home) if j["metadata"].get("nas_job") == job.job_id]  # type: ignore[attr-defined]
        assert ray_job["metadata"]["job_name"] == f"on ray ({job.job_id})"  # type: ignore[index]
        shown = httpx.get(f"{url}/v1/jobs/{job.job_id}/driver").json()["page"]
        assert shown.endswith(f"/#/jobs/{ray_job['submission_id']}")
        os.kill(trial_workers(job.job_id)[0], signal.SIGKILL)
        until(lambda: len(job.trials(states=[TrialState.COMPLETED])) >= 1, 120)
        before = keys(job)
        driver = driver_of(home, job)
        os.killpg(json.loads((home / "ray.json").read_text())["group"], signal.SIGKILL)
        until(lambda: not is_there(driver), 45)  # Ray itself would take a minute
        job.wait(progress=False, timeout=300)
        after = keys(job)
        assert after[: len(before)] == before
        assert all(t.state is TrialState.COMPLETED for t in job.trials())
        assert len(after) == 5


def test_a_cancelled_ray_job_frees_its_workers_within_seconds(url: str) -> None:
    spec = {**SPEC, "training": {"epochs": 4000}, "budget": {"trials": 4}}
    with Client(url) as client:
        job = client.submit(**spec)
        until(lambda: bool(trial_workers(job.job_id)), 90)
        started = time.monotonic()
        job.cancel()
        until(lambda: job.refresh().state is JobState.CANCELLED, 30)
        until(lambda: not trial_workers(job.job_id), 30)
        assert time.monotonic() - started < 30
