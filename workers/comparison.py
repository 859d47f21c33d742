"""Whether quantization and pruning made a file faster at all, on the device where it is timed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas.core import Candidate, Profile, Profiler
from searchspaces import ModelFamily
from workers.deployment import export_onnx
from workers.quantizing import calibrate

INT8 = 8


@dataclass(frozen=True)
class Comparison:
    """A file against a plainer form of the same candidate.

    Attributes:
        form: `float32` (not quantized) or `dense` (not pruned).
        latency_ms: of that form.
        speedup: that form's latency ratio over the file's; below 1 the file is slower.
        is_slower: whether the file is, with intervals of both ratios that do not touch.
    """

    form: str
    latency_ms: float
    speedup: float
    is_slower: bool

    def to_json(self) -> dict[str, Any]:
        """For provenance."""
        return {
            "latency_ms": self.latency_ms,
            "speedup": self.speedup,
            "is_slower": self.is_slower,
            "kind": "measured",
        }


def compared(
    family: ModelFamily, candidate: Candidate, profile: Profile, profiler: Profiler
) -> list[Comparison]:
    """Export and time the plainer forms that the candidate has, with random weights.

    Latency does not depend on the values of weights. Both ratios are to the same reference model,
    so that what the machine did between the timings cancels.

    Raises:
        EvaluationError: a form cannot be exported or timed.
    """
    found = []
    for form, build in plain_forms(family, candidate).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{form}.onnx"
            export_onnx(build(), family.input_shape, path)
            plain = profiler.profile(path)
        slower = plain.ratio_interval[1] < profile.ratio_interval[0]
        speedup = plain.latency_ratio / profile.latency_ratio
        found.append(Comparison(form, plain.calm_ms, speedup, slower))
    return found


def plain_forms(family: ModelFamily, candidate: Candidate) -> Mapping[str, Callable[[], nn.Module]]:
    """What builds the candidate without quantization, and without pruning, where it has them."""
    forms: dict[str, Callable[[], nn.Module]] = {}
    quantized = any(weight < 32 for weight, _ in family.bits(candidate).values())
    if quantized:
        forms["float32"] = lambda: built(family, candidate, pruned=True, quantized=False)
    if _prunes(family, candidate):
        forms["dense"] = lambda: built(family, candidate, pruned=False, quantized=quantized)
    return forms


def warnings(
    bits: Mapping[str, tuple[int, int]], profile: Profile, comparisons: list[Comparison]
) -> list[str]:
    """What a user should know before believing in compression: one sentence each."""
    said = [
        f"slower than its {c.form} form here: {1 / c.speedup:.2f} times its latency"
        for c in comparisons
        if c.is_slower
    ]
    weighted: Mapping[str, int] = profile.conditions.get("weighted", {})
    n_float = sum(n for kind, n in weighted.items() if kind != "int8")
    integer = [w <= INT8 and a <= INT8 for w, a in bits.values()]
    if integer and all(integer) and n_float:
        said.append(f"{n_float} of {sum(weighted.values())} weighted operators ran in float")
    elif any(integer) and not weighted.get("int8"):
        said.append("the runtime executed nothing with weights in int8")
    return said


def built(family: ModelFamily, candidate: Candidate, pruned: bool, quantized: bool) -> nn.Module:
    """The candidate with random weights, pruned and quantized or not; ready to export."""
    network = family.build(candidate).eval()
    if pruned:
        family.prune(network, candidate)
    if quantized:
        family.quantize(network, candidate)
        images = np.random.default_rng(0).normal(size=(8, *family.input_shape))
        calibrate(network, images.astype(np.float32))
    return network


def _prunes(family: ModelFamily, candidate: Candidate) -> bool:
    network = family.build(candidate).eval()
    dense = _non_zeros(network)
    family.prune(network, candidate)
    return _non_zeros(network) < dense


def _non_zeros(network: nn.Module) -> int:
    with torch.no_grad():
        return sum(int(torch.count_nonzero(p)) for p in network.parameters())
