"""Fake quantization: values on an integer grid, gradients as if they were not.

In an ONNX export (`torch.onnx.export(dynamo=False)`) a quantizer becomes QuantizeLinear and
DequantizeLinear, with a Clip on the integer codes between them where fewer than 8 bits are used,
so a runtime executes the layer in 8-bit kernels on the very codes that were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

MIN_SCALE = 1e-8


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
        if dtype == torch.uint8 and codes[1] < 255:
            bounds = [g.op("Constant", value_t=torch.tensor(c, dtype=dtype)) for c in codes]
            out = g.op("Clip", out, *bounds)
        return g.op("DequantizeLinear", out, step, offset, axis_i=0)


class WeightQuantizer(nn.Module):
    """Symmetric signed quantization whose step follows the weight: max |w| is the last code.

    8 bits use the codes -64 to 64 (reduced range): pairs of products of unsigned activations and
    signed weights then fit the 16-bit sums of processors without VNNI, so the exported file
    computes the same everywhere. Other widths use -(2^(bits-1) - 1) to 2^(bits-1) - 1.
    """

    def __init__(self, bits: int, per_channel: bool) -> None:
        super().__init__()
        self.bits = bits
        self.per_channel = per_channel
        self.limit = 64 if bits == 8 else 2 ** (bits - 1) - 1

    def scale(self, weight: Tensor) -> Tensor:
        """Step sizes: `(out,)` per channel, `()` per tensor."""
        magnitude = weight.detach().abs()
        peak = magnitude.flatten(1).amax(1) if self.per_channel else magnitude.amax()
        return (peak / self.limit).clamp_min(MIN_SCALE)

    def forward(self, weight: Tensor) -> Tensor:
        """Weight of any shape, output channels first, on its grid; straight-through gradient."""
        scale = self.scale(weight)
        if torch.onnx.is_in_onnx_export():
            return _onnx(weight, scale.flatten().tolist(), 0, (-self.limit, self.limit))
        if not self.per_channel:
            zero = torch.zeros((), dtype=torch.int32, device=weight.device)
            return torch.fake_quantize_per_tensor_affine(
                weight, scale, zero, -self.limit, self.limit
            )
        zeros = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, 0, -self.limit, self.limit
        )


class ActivationQuantizer(nn.Module):
    """Asymmetric unsigned quantization of a whole tensor to codes 0 … 2^bits - 1.

    While `observing` it passes values through and widens its range to what it sees; afterwards
    the range stands still. The range always holds 0, so padding is exact.

    Attributes:
        low, high: `()` buffers, the range seen.
        frozen: literal (scale, zero point), set once the network is final; see `freeze`.
    """

    low: Tensor
    high: Tensor

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.observing = True
        self.frozen: tuple[float, int] | None = None
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    @property
    def last_code(self) -> int:
        """The largest code."""
        return int(2**self.bits) - 1

    def grid(self) -> tuple[Tensor, Tensor]:
        """`()` step and `()` int32 zero point."""
        scale = ((self.high - self.low) / self.last_code).clamp_min(MIN_SCALE)
        zero = torch.round(-self.low / scale).clamp(0, self.last_code).to(torch.int32)
        return scale, zero

    @property
    def clips_like_relu6(self) -> bool:
        """Whether its range does all that a ReLU6 before it would do."""
        return float(self.low) == 0.0 and float(self.high) <= 6.0

    def freeze(self) -> None:
        """Keep step and zero point as plain numbers, for generated source."""
        scale, zero = self.grid()
        self.frozen = float(scale), int(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Tensor of any shape, on the grid unless observing."""
        if self.frozen is not None:
            return torch.fake_quantize_per_tensor_affine(x, *self.frozen, 0, self.last_code)
        if self.observing:
            self._observe(x)
            return x
        scale, zero = self.grid()
        if torch.onnx.is_in_onnx_export():
            return _onnx(x, [scale.item()], int(zero), (0, self.last_code))
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, self.last_code)

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        self.low.copy_(torch.minimum(self.low, x.amin()))
        self.high.copy_(torch.maximum(self.high, x.amax()))


def _onnx(x: Tensor, scale: Sequence[float], zero: int, codes: tuple[int, int]) -> Tensor:
    out: Tensor = _OnnxQuantize.apply(x, scale, zero, codes)
    return out


def set_observing(network: nn.Module, observing: bool) -> None:
    """Switch every activation quantizer of `network` between watching and quantizing."""
    for module in network.modules():
        if isinstance(module, ActivationQuantizer):
            module.observing = observing
