"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("NAS_CACHE", str(Path(tempfile.gettempdir()) / f"nas-tests-{os.getuid()}"))
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One small local cluster for all tests that need Ray."""
    from workers.executors.ray import cluster

    with cluster(n_cpus=2):
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Where benchmark files lie; tests skip, naming the file, when one is absent."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("NAS_DATA") or (beside if beside.is_dir() else "~/.cache/nas"))
