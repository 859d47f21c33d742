from __future__ import annotations

import pytest

from workers.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits", limit=400)
