"""Layers that mix kernels, channel counts, patterns of zeros and bits within one set of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import SearchSpace
from searchspaces.layers import DENSE, FLOAT_BITS, Sparsity, WeightGrid
from searchspaces.layers.quantizers import TYPICAL_SHARES, activation_codes, activation_grid
from searchspaces.relaxed._base import batch_norm


@dataclass(frozen=True)
class MixedBits:
    """Probabilities of the bits of weights and activations, and of how weights are stepped.

    Attributes:
        weight, activation: `()` probabilities by bits, 32 being float.
        per_channel: `()` probability of a step per output channel.
        symmetric: `()` probability of codes around zero, where the step is per tensor.
        noise: in place of rounding weights, uniform noise as wide as their expected step.
    """

    weight: Mapping[int, Tensor]
    activation: Mapping[int, Tensor]
    per_channel: Tensor
    symmetric: Tensor
    noise: bool = False

    @classmethod
    def of(
        cls, space: SearchSpace, weights: Mapping[str, Tensor], stage: str, noise: bool = False
    ) -> Self | None:
        """Those of `stage`, of weights by decision; None where all is float, or nothing chosen."""

        def by_option(name: str) -> dict[object, Tensor]:
            if f"{stage}.{name}" not in weights:
                return {}
            options = space.decisions[space.column[f"{stage}.{name}"]].options
            return dict(zip(options, weights[f"{stage}.{name}"], strict=True))

        weight = {int(b): p for b, p in by_option("weight_bits").items()}  # type: ignore[call-overload]
        if set(weight) <= {FLOAT_BITS}:
            return None
        one = weights[f"{stage}.weight_bits"].new_ones(())
        activation = {int(b): p for b, p in by_option("activation_bits").items()}  # type: ignore[call-overload]
        return cls(
            weight,
            activation or {FLOAT_BITS: one},
            by_option("granularity").get("per_channel", 0 * one),
            by_option("symmetric").get(True, one),
            noise,
        )

    def weights(self, weight: Tensor) -> Tensor:
        """`weight`, output channels first, as the mixture of its roundings.

        Reference: Shvetsov et al. 2022 (QuantNAS), section 3.3, for the noise.
        """
        mixed = self._share(self.weight, FLOAT_BITS, weight) * weight
        for bits, share in self.weight.items():
            if bits == FLOAT_BITS or share.detach() == 0:
                continue
            factor = torch.tensor(TYPICAL_SHARES[bits], device=weight.device)
            for grid, part in self._grids(bits):
                if part.detach() != 0:
                    mixed = mixed + share * part * self._rounded(weight, grid, factor)
        return mixed

    def activations(self, x: Tensor) -> Tensor:
        """`x` of any shape as the mixture of its roundings; float where weights are."""
        quantized = 1 - self._share(self.weight, FLOAT_BITS, x)
        if quantized.detach() == 0:
            return x
        mixed = (1 - quantized + quantized * self._share(self.activation, FLOAT_BITS, x)) * x
        low, high = x.detach().amin().clamp_max(0), x.detach().amax().clamp_min(0)
        for bits, share in self.activation.items():
            if bits == FLOAT_BITS or share.detach() == 0:
                continue
            codes = activation_codes(bits, symmetric=False)
            clip = torch.tensor(TYPICAL_SHARES[bits], device=x.device)
            grid = activation_grid(low, high, clip, codes)
            mixed = mixed + quantized * share * torch.fake_quantize_per_tensor_affine(
                x, *grid, *codes
            )
        return mixed

    def _grids(self, bits: int) -> list[tuple[WeightGrid, Tensor]]:
        tensor = 1 - self.per_channel
        return [
            (WeightGrid(bits, per_channel=True), self.per_channel),
            (WeightGrid(bits, per_channel=False), tensor * self.symmetric),
            (WeightGrid(bits, per_channel=False, symmetric=False), tensor * (1 - self.symmetric)),
        ]

    def _rounded(self, weight: Tensor, grid: WeightGrid, factor: Tensor) -> Tensor:
        if not self.noise:
            return grid.quantize(weight, factor)
        steps = grid.steps(weight, factor)[0]
        shape = (-1,) + (1,) * (weight.ndim - 1) if grid.per_channel else ()
        return weight + steps.reshape(shape) * (torch.rand_like(weight) - 0.5)

    @staticmethod
    def _share(shares: Mapping[int, Tensor], bits: int, like: Tensor) -> Tensor:
        return shares[bits] if bits in shares else like.new_zeros(())


class MixedConv(nn.Module):
    """A convolution as large as its largest choice, then a norm.

    Args:
        n_in, n_out: channels; the same where `depthwise`.
        kernels: sizes, rising; smaller ones are the centre of the largest.
        sparsities: patterns of zeros there are.
        dilation: between a kernel's taps.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernels: Sequence[int] = (1,),
        stride: int = 1,
        depthwise: bool = False,
        sparsities: Sequence[str] = (DENSE,),
        norm: bool = True,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        largest = max(kernels)
        groups, padding = n_out if depthwise else 1, dilation * (largest // 2)
        self.conv = nn.Conv2d(
            n_in, n_out, largest, stride, padding, dilation, groups, bias=not norm
        )
        self.norm = batch_norm(n_out) if norm else None
        self._patterns = [Sparsity.parse(text) for text in sparsities]
        centres = torch.zeros(len(kernels), largest, largest)
        for i, kernel in enumerate(kernels):
            edge = (largest - kernel) // 2
            centres[i, edge : largest - edge, edge : largest - edge] = 1
        self.register_buffer("centres", centres, persistent=False)

    centres: Tensor

    def forward(
        self,
        x: Tensor,
        bits: MixedBits | None = None,
        kernel: Tensor | None = None,
        sparsity: Tensor | None = None,
    ) -> Tensor:
        """`(B, n_in, H, W)` to `(B, n_out, H / stride, W / stride)`.

        Args:
            x: images.
            bits: of the weights; None for float.
            kernel: `(kernels,)` weights; None where there is one.
            sparsity: `(patterns,)` weights; None where there is one.
        """
        weight = self.conv.weight
        if kernel is not None:
            weight = weight * torch.tensordot(kernel, self.centres, 1)
        if sparsity is not None:
            weight = self._zeroed(weight, sparsity)
        if bits is not None:
            weight = bits.weights(weight)
        conv = self.conv
        x = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        return x if self.norm is None else self.norm(x)

    def _zeroed(self, weight: Tensor, shares: Tensor) -> Tensor:
        parts = [
            share * (weight if pattern is None else pattern.apply(weight))
            for share, pattern in zip(shares, self._patterns, strict=True)
            if share.detach() != 0
        ]
        return torch.stack(parts).sum(0)


def rounded(x: Tensor, bits: MixedBits | None) -> Tensor:
    """Activations `x` of any shape at these bits; as they are where there are none."""
    return x if bits is None else bits.activations(x)


def first_channels(counts: Sequence[int], n: int) -> Tensor:
    """`(choices, n)` ones at the channels that each choice of a count uses."""
    return torch.stack([(torch.arange(n) < count).float() for count in counts])
