"""Where the time of an exported network goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn

import searchspaces
from searchspaces import ModelFamily
from searchspaces.layers import ConvUnit, LinearUnit
from tests.searchspaces.test_traced import family as traced_family
from workers.comparison import built
from workers.deployment import export_onnx
from workers.profiling.layer_times import EMPTY, calm_layers
from workers.profiling.modules import BETWEEN, module_ms

FAMILIES = {
    "mobilenet": searchspaces.family("mobilenet", (1, 8, 8), 5, {"n_stages": 1, "depths": [1]}),
    "cells": searchspaces.family("cells", (1, 8, 8), 5),
    "traced": traced_family(),
}


def evenly(runs: Sequence[Sequence[tuple[str, float]]]) -> dict[str, float]:
    """Times of layers as if every node took 5 microseconds, 2 of them the profiler's own."""
    return calm_layers(
        [[(name, 2.0 if EMPTY in name else 5.0) for name, _ in nodes] for nodes in runs]
    )


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_is_timed_under_its_own_name(
    name: str, quantized: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.profiling.runtime.calm_layers", evenly)
    family: ModelFamily = FAMILIES[name]
    rows = family.space.sample(20, np.random.default_rng(0))
    candidate = family.space.candidate(rows[family.connected(rows)][0])
    network: nn.Module = built(family, candidate, pruned=True, quantized=quantized)
    units = [n for n, u in network.named_modules() if isinstance(u, (ConvUnit, LinearUnit))]
    export_onnx(network, family.input_shape, tmp_path / "model.onnx")
    times = module_ms(tmp_path / "model.onnx", 5)
    assert all(ms > 0.0 for ms in times.values())
    modules = [f"{module}." for module in times]
    assert all(any(m.startswith(f"{unit}.") for m in modules) for unit in units), times
    known = {name for name, _ in network.named_modules()} | {BETWEEN}
    assert times.keys() <= known
