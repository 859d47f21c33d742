"""What a layer costs on an accelerator that fuses bits, by a closed form fitted to a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from searchspaces.weighted import WeightedLayer
from workers.tables import relative_fit

KINDS = ("depthwise", "other")
MIN_LAYERS = 8
"""Of one kind, to which a form of its own is fitted; fewer borrow from all kinds."""


@dataclass(frozen=True)
class ClosedForm:
    """One figure (latency, energy) as a non-negative sum over what a layer computes and moves.

    Attributes:
        coefficients: by kind, `(4,)`: the figure's unit for each of `terms`.

    Reference: Sharma et al. 2018 (Bit Fusion), section III: operands are split into bricks of two
        bits, and their bit widths are powers of two; section IV: data moves at its own width.
    """

    coefficients: Mapping[str, Sequence[float]]

    @classmethod
    def fitted(cls, layers: Sequence[WeightedLayer], values: Sequence[float]) -> Self:
        """Non-negative least squares on relative errors, depthwise apart from other layers.

        Args:
            layers: of both kinds; where one has fewer than 8, it has the form of all.
            values: `(n,)` positive figures of `layers`.
        """
        x, y = np.stack([terms(layer) for layer in layers]), np.asarray(values, dtype=np.float64)
        kinds = np.array([kind_of(layer) for layer in layers])
        found = {}
        for kind in KINDS:
            chosen = kinds == kind
            if chosen.sum() < MIN_LAYERS:
                chosen[:] = True
            found[kind] = relative_fit(x[chosen], y[chosen]).tolist()
        return cls(found)

    def of(self, layer: WeightedLayer) -> float:
        """The figure of a layer."""
        return float(terms(layer) @ np.asarray(self.coefficients[kind_of(layer)]))


@dataclass(frozen=True)
class HeldOut:
    """Relative errors of a form for layers it was not fitted to: `n` of them."""

    median: float
    p90: float
    n: int


def terms(layer: WeightedLayer) -> NDArray[np.float64]:
    """`(4,)` bit operations at the next powers of two, and bits of weights, inputs, outputs.

    An output counts with the bits of the input: what reads it next is not known here.
    """
    bit_ops = layer.macs * _power(layer.weight_bits) * _power(layer.input_bits)
    return np.array(
        [
            bit_ops,
            layer.n_weights * layer.weight_bits,
            layer.n_in * math.prod(layer.size) * layer.input_bits,
            layer.n_out * math.prod(layer.out) * layer.input_bits,
        ],
        dtype=np.float64,
    )


def kind_of(layer: WeightedLayer) -> str:
    """One of `KINDS`."""
    return "depthwise" if layer.is_depthwise else "other"


def held_out(
    layers: Sequence[WeightedLayer], values: Sequence[float], seed: int = 0
) -> dict[str, HeldOut]:
    """By kind, errors of a form fitted to a random half of the layers, for the other half."""
    order = np.random.default_rng(seed).permutation(len(layers))
    known, asked = order[::2], order[1::2]
    form = ClosedForm.fitted([layers[i] for i in known], [values[i] for i in known])
    errors: dict[str, list[float]] = {}
    for i in asked:
        error = abs(form.of(layers[i]) / values[i] - 1.0)
        errors.setdefault(kind_of(layers[i]), []).append(error)
    found = {kind: (np.percentile(off, [50, 90]), len(off)) for kind, off in errors.items()}
    return {
        kind: HeldOut(float(found[kind][0][0]), float(found[kind][0][1]), found[kind][1])
        for kind in KINDS
        if kind in found
    }


def errors_from_json(body: Mapping[str, Any]) -> dict[str, HeldOut]:
    """What `asdict` made of errors, read."""
    return {kind: HeldOut(**error) for kind, error in body.items()}


def _power(bits: int) -> int:
    """The next power of two: how many bits the fused units take."""
    return 1 << (bits - 1).bit_length()
