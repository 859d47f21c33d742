"""Real jobs through a real server, and real deaths of its parts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from nas.client import Client
from nas.core import JobState, TrialState
from nas.service import Server, ServiceSettings
from tests.service.conftest import SPEC
from tests.service.processes import driver_of, is_there, keys, same_trials, serving
from tests.waiting import until

pytestmark = pytest.mark.slow
LOCAL = ("--ray", "local")
N_TRIALS = 6
LONGER = {**SPEC, "budget": {"trials": N_TRIALS, "finalists": 2}}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str | None]]:
    """Trials of the same job when nothing dies."""
    home = tmp_path_factory.mktemp("unbroken")
    with Server(ServiceSettings(home, port=0)) as server, Client(server.url) as client:
        job = client.submit(**LONGER)
        job.wait(progress=False)
        return keys(job)


def test_a_job_is_submitted_watched_downloaded_and_extended(tmp_path: Path) -> None:
    with Client(home=tmp_path / "home") as client:
        job = client.submit(**SPEC)
        front = job.wait(progress=False)
        (model,) = front
        path = model.download(tmp_path / "model.onnx")  # type: ignore[attr-defined]
        session = onnxruntime.InferenceSession(path)
        x = np.zeros((1, 1, 8, 8), dtype=np.float32)
        assert session.run(None, {session.get_inputs()[0].name: x})[0].shape == (1, 10)
        exported = model.export(tmp_path / "exported")
        assert json.loads((exported / "card.json").read_text())["job"]["id"] == job.job_id
        assert job.report(tmp_path / "report.html").read_text().startswith("<!doctype html>")
        first = keys(job)
        job.extend(trials=5, finalists=2).wait(progress=False)
        assert keys(job)[: len(first)] == first
        assert len(job.trials()) > len(first) + 1
        assert job.refresh().state is JobState.COMPLETED


def test_a_killed_driver_is_replaced_and_nothing_is_lost_or_doubled(
    tmp_path: Path, unbroken: list[tuple[int, str | None]]
) -> None:
    home = tmp_path / "home"
    with Server(ServiceSettings(home, port=0)) as server, Client(server.url) as client:
        job = client.submit(**LONGER)
        for n in (1, 3):
            until(lambda n=n: len(job.trials(states=[TrialState.COMPLETED])) >= n)  # type: ignore[misc]
            os.kill(driver_of(home, job), signal.SIGKILL)
        job.wait(progress=False, timeout=240)
        assert same_trials(keys(job), unbroken, N_TRIALS)
        assert all(t.state is TrialState.COMPLETED for t in job.trials())
        assert [e.sequence for e in job.stream()] == list(range(1, 2 * len(unbroken) + 1))


def test_trials_of_one_job_run_in_processes_at_once_and_one_killed_is_run_again(
    tmp_path: Path, unbroken: list[tuple[int, str | None]]
) -> None:
    home = tmp_path / "home"
    with (
        Server(ServiceSettings(home, port=0, workers=2)) as server,
        Client(server.url) as client,
    ):
        job = client.submit(**LONGER)
        until(lambda: len(job.trials(states=[TrialState.RUNNING])) == 2)
        driver = driver_of(home, job)
        until(lambda: len(children(driver)) == 2)
        os.kill(children(driver)[0], signal.SIGKILL)
        job.wait(progress=False, timeout=240)
        assert same_trials(keys(job), unbroken, N_TRIALS)
        assert all(t.state is TrialState.COMPLETED for t in job.trials())
        until(lambda: not is_there(driver) and not children(driver))


def children(pid: int) -> list[int]:
    """Processes that `pid` started and that live."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout
    return [int(child) for child in found.split() if is_there(int(child))]


def test_a_killed_server_is_started_again_and_the_stream_goes_on(
    tmp_path: Path, unbroken: list[tuple[int, str | None]]
) -> None:
    home = tmp_path / "home"
    with serving(home, *LOCAL) as (process, url):
        port = url.rpartition(":")[2]
        with Client(url) as client:
            job = client.submit(**LONGER)
            until(lambda: len(job.trials(states=[TrialState.COMPLETED])) >= 1)
        process.kill()
        process.wait()
    with serving(home, *LOCAL, "--port", port) as (_, url), Client(url) as client:
        job = client.job(job.job_id)
        job.wait(progress=False, timeout=240)
        assert same_trials(keys(job), unbroken, N_TRIALS)


def test_cancelling_a_running_job_frees_it_within_seconds(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with Server(ServiceSettings(home, port=0)) as server, Client(server.url) as client:
        job = client.submit(**{**SPEC, "training": {"epochs": 1}, "budget": {"trials": 500}})
        until(lambda: len(job.trials()) >= 2)
        driver = driver_of(home, job)
        started = time.monotonic()
        job.cancel()
        until(lambda: job.refresh().state is JobState.CANCELLED, 20)
        assert time.monotonic() - started < 20
        until(lambda: not is_there(driver), 20)
        assert all(t.state is not TrialState.RUNNING for t in job.trials())


def test_a_paused_job_goes_on_where_it_was(
    tmp_path: Path, unbroken: list[tuple[int, str | None]]
) -> None:
    home = tmp_path / "home"
    with Server(ServiceSettings(home, port=0)) as server, Client(server.url) as client:
        job = client.submit(**LONGER)
        until(lambda: len(job.trials(states=[TrialState.COMPLETED])) >= 2)
        job.pause()
        until(lambda: job.refresh().state is JobState.PAUSED, 30)
        job.resume().wait(progress=False, timeout=240)
        assert same_trials(keys(job), unbroken, N_TRIALS)
