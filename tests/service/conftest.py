"""A server in this process, with jobs that were never run unless a test wants them to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.client import Client
from nas.core import Candidate, Evaluate, Fidelity, JobStore
from nas.service import Server, ServiceSettings

SPEC = {
    "data": "digits",
    "space": {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
    "strategy": "random",
    "objectives": ["accuracy", "weight_bytes"],
    "budget": {"trials": 3, "finalists": 1},
    "training": {"epochs": 1, "deployed_epochs": 0, "finetune_epochs": 0, "latency_runs": 30},
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Takes jobs and leaves them alone."""
    with Server(ServiceSettings(tmp_path / "home", port=0, supervise=False)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


def add_trials(store: JobStore, job_id: str, n: int, n_finished: int) -> None:
    """Started trials with made-up results, the first `n_finished` of them completed."""
    trials = store.trial_store(job_id)
    for i in range(n):
        trial = trials.create(Evaluate(Candidate({"w": i}, f"{i:016x}"), Fidelity.TRAINED))
        if i < n_finished:
            metrics = {"accuracy": (i * 7 % 11) / 11, "weight_bytes": 1000.0 - i}
            trials.finish(trial.completed(metrics, seconds=0.1))
