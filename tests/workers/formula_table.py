"""A table of layers written by a formula, for tests: what it should tell is known."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from searchspaces.weighted import WeightedLayer
from workers.closed_form import terms
from workers.imported import layer_of

LATENCY = ((3e-8, 1e-6, 2e-6, 4e-7), (5e-8, 1e-7, 3e-6, 1e-6))
ENERGY = ((1e-8, 3e-6, 1e-6, 2e-6), (2e-8, 2e-6, 4e-6, 1e-6))
"""By whether a layer is depthwise: milliseconds and millijoules for each of its terms."""


def formula(layer: WeightedLayer) -> dict[str, float]:
    """An entry: exactly what a closed form can tell."""
    x, which = terms(layer), int(layer.is_depthwise)
    return {"latency": float(x @ LATENCY[which]), "energy": float(x @ ENERGY[which])}


def entries() -> dict[str, dict[str, float]]:
    """A few dozen layers of both kinds, at 4 and 8 bits."""
    keys = [
        f"({n}, {m}, {size}, 1, 1, 0, 1)-W{w}A{a}"
        for n, m, size, w, a in product((8, 24), (16, 64), (4, 8), (4, 8), (4, 8))
    ]
    keys += [
        f"({n}, {n}, {size}, {kernel}, {stride}, {kernel // 2}, {n})-W{bits}A{bits}"
        for n, size, kernel, stride, bits in product((8, 24), (4, 8), (3, 5), (1, 2), (4, 8))
    ]
    return {key: formula(layer_of(key)) for key in keys}


def write(path: Path, **more: dict[str, float]) -> Path:
    """The table as a file, with the given entries in place of the formula's."""
    path.write_text(json.dumps({**entries(), "head": {"latency": 1.0}, **more}))
    return path
