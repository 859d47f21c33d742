"""Shared by the tests of strategies."""

from __future__ import annotations

from typing import Any

import optuna
import pytest


class HastyGP(optuna.samplers.GPSampler):
    """Optuna's, with less care for the best of its acquisition function, which takes the time."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._n_preliminary_samples = 128
        self._n_local_search = 2
        self._n_qmc_samples_qei = self._n_qmc_samples_ehvi = 16


@pytest.fixture
def hasty_gp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make Gaussian processes fast enough for hundreds of asks."""
    monkeypatch.setattr(optuna.samplers, "GPSampler", HastyGP)
