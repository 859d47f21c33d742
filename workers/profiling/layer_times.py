"""Times of layers from a runtime's own profile, without the time that the profile itself takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

EMPTY = "empty"
"""The layer whose one node does nothing: see `layers.write_layers`."""
FUSED = "fused "
"""What ONNX Runtime puts before the name of a node that took up the one after it."""


def calm_layers(runs: Sequence[Sequence[tuple[str, float]]]) -> dict[str, float]:
    """Undisturbed milliseconds by layer: what names of nodes have before their first dot.

    Profilers tell whole microseconds, of which the mean over the calmer half of the runs is taken.
    Their own time, some microseconds a node, is what they tell of the layer that does nothing;
    without such a layer it stays in the figures.

    Args:
        runs: name and microseconds of every node, by run.
    """
    found: dict[str, list[float]] = {}
    n_nodes: Counter[str] = Counter()
    for nodes in runs:
        times: dict[str, float] = {}
        for name, microseconds in nodes:
            layer = name.removeprefix(FUSED).partition(".")[0]
            times[layer] = times.get(layer, 0.0) + microseconds
            n_nodes[layer] += 1
        for layer, time in times.items():
            found.setdefault(layer, []).append(time)
    calm = {layer: float(np.sort(t)[: (len(t) + 1) // 2].mean()) for layer, t in found.items()}
    own = calm.pop(EMPTY, 0.0)
    return {k: max(0.0, t - own * n_nodes[k] / len(runs)) / 1e3 for k, t in calm.items()}
