"""Fake quantization: values on an integer grid, gradients as if they were not.

In an ONNX export (`torch.onnx.export(dynamo=False)`) a quantizer becomes QuantizeLinear and
DequantizeLinear, with a Clip on the integer codes between them where fewer than 8 bits are used,
so a runtime executes the layer in 8-bit kernels on the very codes that were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MIN_SCALE = 1e-8
MIN_CLIP = 0.05
FLOAT_BITS = 32
SHARES = tuple(i / 20 for i in range(4, 21))
"""Shares of the widest value among which the range that loses least is looked for."""

TYPICAL_SHARES = {2: 0.4, 3: 0.6, 4: 0.8, 5: 0.9, 6: 1.0, 7: 1.0, 8: 1.0}
"""By bits, the share of the widest of about a thousand normal values that loses least."""


class _OnnxQuantize(torch.autograd.Function):
    """The pair QuantizeLinear, DequantizeLinear while tracing for ONNX.

    `scale` holds one step per output channel, or one in all; `codes` are the first and the last.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Sequence[float], zero: int, codes: tuple[int, int]
    ) -> Tensor:
        return x.clone()

    @staticmethod
    def symbolic(g: Any, x: Any, scale: Sequence[float], zero: int, codes: tuple[int, int]) -> Any:
        dtype = torch.int8 if codes[0] < 0 else torch.uint8
        steps = torch.tensor(scale) if len(scale) > 1 else torch.tensor(scale[0])
        step = g.op("Constant", value_t=steps)
        offset = g.op("Constant", value_t=torch.full_like(steps, zero).to(dtype))
        out = g.op("QuantizeLinear", x, step, offset, axis_i=0)
        if codes not in ((0, 255), (-128, 127)):
            bounds = [g.op("Constant", value_t=torch.tensor(c, dtype=dtype)) for c in codes]
            out = g.op("Clip", out, *bounds)
        return g.op("DequantizeLinear", out, step, offset, axis_i=0)


@dataclass(frozen=True)
class WeightGrid:
    """Where quantized weights may lie.

    8 bits use the codes -64 to 64 (reduced range): pairs of products of unsigned activations and
    signed weights then fit the 16-bit sums of processors without VNNI, so the exported file
    computes the same everywhere. Other widths use -(2^(bits-1) - 1) to 2^(bits-1) - 1.

    Attributes:
        bits: 2 to 8.
        per_channel: one step per output channel, or one for the tensor.
        symmetric: zero is the middle code; otherwise the codes span minimum to maximum, for
            whole tensors only (runtimes want one zero point).
    """

    bits: int
    per_channel: bool
    symmetric: bool = True

    @property
    def limit(self) -> int:
        """The largest code; the smallest is its negative."""
        return 64 if self.bits == 8 else int(2 ** (self.bits - 1)) - 1

    def steps(self, weight: Tensor, factor: Tensor) -> tuple[Tensor, int]:
        """Step sizes, `(out,)` per channel or `()`, and the zero point; no gradient but `factor`'s.

        The widest value is the last code when `factor` is 1; a smaller factor clips.
        """
        values = weight.detach()
        if self.symmetric:
            magnitude = values.abs()
            peak = magnitude.flatten(1).amax(1) if self.per_channel else magnitude.amax()
            return (peak / self.limit).clamp_min(MIN_SCALE) * factor, 0
        low, high = values.amin().clamp_max(0), values.amax().clamp_min(0)
        scale = ((high - low) / (2 * self.limit)).clamp_min(MIN_SCALE)
        zero = int(torch.round(-low / scale)) - self.limit
        return scale * factor, zero

    def quantize(self, weight: Tensor, factor: Tensor) -> Tensor:
        """`weight`, output channels first, on the grid; straight-through gradients.

        Reference: Esser et al. 2020 (LSQ), equations 1 to 3, for the gradient of the step; here
        the step is `factor` times the one of the largest weight.
        """
        scale, zero = self.steps(weight, factor)
        if torch.onnx.is_in_onnx_export():
            return _onnx(weight, scale.flatten().tolist(), zero, (-self.limit, self.limit))
        if torch.is_grad_enabled() and factor.requires_grad:
            shape = (-1,) + (1,) * (weight.ndim - 1) if self.per_channel else ()
            return _learned(weight, scale.reshape(shape), zero, -self.limit, self.limit)
        if not self.per_channel:
            offset = torch.full((), zero, dtype=torch.int32, device=weight.device)
            return torch.fake_quantize_per_tensor_affine(
                weight, scale, offset, -self.limit, self.limit
            )
        zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, 0, -self.limit, self.limit
        )


class WeightQuantizer(nn.Module):
    """Puts a weight on a grid whose step follows the weight, times a learned factor.

    Attributes:
        grid: where values may lie.
        factor: `()` parameter, 1 at first.
    """

    def __init__(self, grid: WeightGrid) -> None:
        super().__init__()
        self.grid = grid
        self.factor = nn.Parameter(torch.ones(()))

    @torch.no_grad()
    def fit(self, weight: Tensor) -> None:
        """Set the factor to the one at which `weight` loses least squares.

        With few bits the step of the largest weight turns nearly all others to zero.
        """
        candidates = [torch.tensor(share, device=weight.device) for share in SHARES]
        losses = [(self.grid.quantize(weight, f) - weight).square().sum() for f in candidates]
        self.factor.copy_(candidates[int(torch.stack(losses).argmin())])

    def scale(self, weight: Tensor) -> Tensor:
        """Step sizes: `(out,)` per channel, `()` per tensor."""
        return self.grid.steps(weight, self.factor.detach())[0]

    def forward(self, weight: Tensor) -> Tensor:
        """Weight of any shape, output channels first, on its grid."""
        return self.grid.quantize(weight, self.factor)


class ActivationQuantizer(nn.Module):
    """Quantization of a whole tensor to `2^bits` codes between the ends of a range.

    While `observing` it passes values through, widens its range to what it sees, and keeps the
    share of it at which the last tensor seen loses least squares; afterwards the range stands still
    but for that share, which is learned. The range always holds 0, so padding is exact.

    Attributes:
        bits: 2 to 8.
        symmetric: codes -2^(bits-1) … 2^(bits-1) - 1 around 0, instead of 0 … 2^bits - 1.
        low, high: `()` buffers, the range seen.
        clip: `()` parameter, share of the range that is kept.
        frozen: literal (scale, zero point), set once the network is final; see `freeze`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, bits: int, symmetric: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.symmetric = symmetric
        self.observing = True
        self.frozen: tuple[float, int] | None = None
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.clip = nn.Parameter(torch.ones(()))

    @property
    def codes(self) -> tuple[int, int]:
        """The first and the last code."""
        return activation_codes(self.bits, self.symmetric)

    def grid(self) -> tuple[Tensor, Tensor]:
        """`()` step and `()` int32 zero point."""
        return activation_grid(self.low, self.high, self.clip.detach(), self.codes)

    @property
    def clips_like_relu6(self) -> bool:
        """Whether its range does all that a ReLU6 before it would do."""
        kept = float(self.high) * float(self.clip.clamp(MIN_CLIP, 1.0))
        return not self.symmetric and float(self.low) == 0.0 and kept <= 6.0

    def freeze(self) -> None:
        """Keep step and zero point as plain numbers, for generated source."""
        scale, zero = self.grid()
        self.frozen = float(scale), int(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Tensor of any shape, on the grid unless observing."""
        if self.frozen is not None:
            return torch.fake_quantize_per_tensor_affine(x, *self.frozen, *self.codes)
        if self.observing:
            self._observe(x)
            return x
        if torch.onnx.is_in_onnx_export():
            scale, zero = self.grid()
            return _onnx(x, [scale.item()], int(zero), self.codes)
        return quantize_activation(x, self.low, self.high, self.clip, self.codes)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        self.low.copy_(torch.minimum(self.low, x.amin()))
        self.high.copy_(torch.maximum(self.high, x.amax()))
        self.clip.copy_(least_squares_clip(x, self.low, self.high, self.codes))


@torch.no_grad()
def least_squares_clip(x: Tensor, low: Tensor, high: Tensor, codes: tuple[int, int]) -> Tensor:
    """`()` share of the range from `low` to `high` at which `x` loses least squares by rounding."""
    shares = [torch.tensor(share, device=x.device) for share in SHARES]
    grids = [activation_grid(low, high, share, codes) for share in shares]
    losses = [
        (torch.fake_quantize_per_tensor_affine(x, *grid, *codes) - x).square().sum()
        for grid in grids
    ]
    return shares[int(torch.stack(losses).argmin())]


def activation_codes(bits: int, symmetric: bool) -> tuple[int, int]:
    """The first and the last code of an activation of `bits`."""
    if symmetric:
        return -int(2 ** (bits - 1)), int(2 ** (bits - 1)) - 1
    return 0, int(2**bits) - 1


def activation_grid(
    low: Tensor, high: Tensor, clip: Tensor, codes: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`()` step and `()` int32 zero point for values from `low` to `high`, both times `clip`."""
    first, last = codes
    if first < 0:
        step = (torch.maximum(-low, high) / last).clamp_min(MIN_SCALE)
        zero = torch.zeros((), dtype=torch.int32, device=low.device)
    else:
        step = ((high - low) / last).clamp_min(MIN_SCALE)
        zero = torch.round(-low / step).clamp(0, last).to(torch.int32)
    return step * clip.clamp(MIN_CLIP, 1.0), zero


def quantize_activation(
    x: Tensor, low: Tensor, high: Tensor, clip: Tensor, codes: tuple[int, int]
) -> Tensor:
    """`x` of any shape on the grid of `activation_grid`; gradients reach `x` and `clip`."""
    scale, zero = activation_grid(low, high, clip, codes)
    if torch.is_grad_enabled() and clip.requires_grad:
        return _learned(x, scale, zero, *codes)
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, *codes)


def set_observing(network: nn.Module, observing: bool) -> None:
    """Switch every activation quantizer of `network` between watching and quantizing."""
    for module in network.modules():
        if isinstance(module, ActivationQuantizer):
            module.observing = observing


def _learned(x: Tensor, scale: Tensor, zero: Tensor | int, first: int, last: int) -> Tensor:
    """Fake quantization whose gradient reaches `scale` (Esser et al. 2020, equation 3)."""
    scaled = x / scale + zero
    codes = (scaled + (scaled.round() - scaled).detach()).clamp(first, last)
    return (codes - zero) * scale


def _onnx(x: Tensor, scale: Sequence[float], zero: int, codes: tuple[int, int]) -> Tensor:
    out: Tensor = _OnnxQuantize.apply(x, scale, zero, codes)
    return out
