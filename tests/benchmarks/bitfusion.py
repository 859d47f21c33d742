"""Latency on the BitFusion accelerator, fitted to the layers its simulator was run on.

The table (`apq_bitfusion_lut.json` in the data folder) has 6,567 convolutions of larger networks.
Its latencies follow multiply-accumulates at the next power of two of both bits, and the bits moved
(Sharma et al. 2018, sections III and IV): non-negative least squares on relative errors, depthwise
and other convolutions apart. Run it to see the errors of the fit:

    .venv/bin/python tests/benchmarks/bitfusion.py
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor, nn

from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit
from workers.datasets import data_folder

FILE = "apq_bitfusion_lut.json"
WIDEST = 16
"""Bits at which what is not quantized runs: the accelerator has no float units."""


@dataclass(frozen=True)
class Layer:
    """One convolution, or a linear layer on a single pixel."""

    n_in: int
    n_out: int
    size: int
    kernel: int
    stride: int
    groups: int
    weight_bits: int
    input_bits: int

    @property
    def terms(self) -> NDArray[np.float64]:
        """`(4,)` bit operations, and bits of weights, inputs, outputs."""
        out = -(-self.size // self.stride)
        weights = self.n_out * self.n_in // self.groups * self.kernel**2
        bit_ops = weights * out**2 * _power(self.weight_bits) * _power(self.input_bits)
        return np.array(
            [
                bit_ops,
                weights * self.weight_bits,
                self.n_in * self.size**2 * self.input_bits,
                self.n_out * out**2 * self.input_bits,
            ],
            dtype=np.float64,
        )


def latency_ms(network: nn.Module, input_shape: tuple[int, int, int]) -> float:
    """Estimated latency of a quantized network: the sum over its layers."""
    coefficients = fitted()
    found = layers(network, input_shape)
    return float(sum(layer.terms @ coefficients[layer.groups > 1] for layer in found))


def layers(network: nn.Module, input_shape: tuple[int, int, int]) -> list[Layer]:
    """The weighted layers a forward pass meets; an input not quantized has 8 bits, an image's."""
    found: list[Layer] = []
    bits_of: dict[int, int] = {}
    kept: list[Tensor] = []  # tensors must live as long as their id is used

    def quantized(module: ActivationQuantizer, _: tuple[Tensor], out: Tensor) -> None:
        bits_of[id(out)] = module.bits
        kept.append(out)

    def weighted(module: ConvUnit | LinearUnit, args: tuple[Tensor], out: Tensor) -> None:
        quantizer = module.weight_quantizer
        weight_bits = WIDEST if quantizer is None else quantizer.grid.bits
        input_bits = bits_of.get(id(args[0]), 8)
        if isinstance(module, ConvUnit):
            conv = module.conv
            shape = (conv.in_channels, conv.out_channels, args[0].shape[2], conv.kernel_size[0])
            found.append(Layer(*shape, conv.stride[0], conv.groups, weight_bits, input_bits))
        else:
            linear = module.linear
            shape = (linear.in_features, linear.out_features, 1, 1)
            found.append(Layer(*shape, 1, 1, weight_bits, input_bits))

    handles = [
        m.register_forward_hook(quantized if isinstance(m, ActivationQuantizer) else weighted)
        for m in network.modules()
        if isinstance(m, (ActivationQuantizer, ConvUnit, LinearUnit))
    ]
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return found


@cache
def fitted() -> dict[bool, NDArray[np.float64]]:
    """Fitted to the whole table."""
    return fit(measured())


def fit(table: list[tuple[Layer, float]]) -> dict[bool, NDArray[np.float64]]:
    """`(4,)` milliseconds per term, for depthwise (True) and other (False) convolutions."""
    out = {}
    for depthwise in (False, True):
        chosen = [(layer.terms, ms) for layer, ms in table if (layer.groups > 1) == depthwise]
        terms, ms = np.stack([t for t, _ in chosen]), np.array([ms for _, ms in chosen])
        scale = terms.mean(axis=0)
        found, _ = nnls(terms / scale / ms[:, None], np.ones(len(ms)))
        out[depthwise] = found / scale
    return out


def measured() -> list[tuple[Layer, float]]:
    """Layers of the table and their latencies."""
    entries = json.loads((data_folder() / FILE).read_text())
    table = []
    for key, value in entries.items():
        match = re.fullmatch(r"\((.*)\)-W(\d+)A(\d+)", key)
        if match is not None:
            n_in, n_out, size, kernel, stride, _, groups = map(int, match[1].split(","))
            bits = int(match[2]), int(match[3])
            layer = Layer(n_in, n_out, size, kernel, stride, groups, *bits)
            table.append((layer, float(value["latency"])))
    return table


def _power(bits: int) -> int:
    """The next power of two: how many bits the fused units take."""
    return 1 << (bits - 1).bit_length()


if __name__ == "__main__":
    for depthwise, coefficients in fitted().items():
        errors = [
            abs(layer.terms @ coefficients / ms - 1)
            for layer, ms in measured()
            if (layer.groups > 1) == depthwise
        ]
        middle, most = np.percentile(errors, [50, 90])
        name = "depthwise" if depthwise else "other"
        print(f"{name}: {len(errors)} layers, error {middle:.1%} median, {most:.1%} nine in ten")
