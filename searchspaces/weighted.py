"""The weighted layers of a network as an accelerator sees them: shapes, bits of both operands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit

Pair = tuple[int, int]
IMAGE_BITS = 8
"""Of the network's input where it is not quantized: that of an image."""
WIDEST = 16
"""Bits at which what else is not quantized is counted: integer accelerators have no float units."""


@dataclass(frozen=True)
class WeightedLayer:
    """One convolution, or a linear layer on a single pixel.

    Attributes:
        n_in, n_out: channels.
        size: `(height, width)` of the input, as all pairs are.
        kernel, stride, padding, dilation: of the convolution.
        groups: of channels; more than one is taken for depthwise.
        weight_bits, input_bits: of the operands.
    """

    n_in: int
    n_out: int
    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int
    weight_bits: int
    input_bits: int
    dilation: Pair = (1, 1)

    @property
    def out(self) -> Pair:
        """Size of the output."""
        sides = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((s + 2 * p - d * (k - 1) - 1) // by + 1 for s, k, by, p, d in sides)
        return height, width

    @property
    def n_weights(self) -> int:
        """Zeros of sparse layers included: accelerators for dense ones multiply them, too."""
        return self.n_out * self.n_in // self.groups * math.prod(self.kernel)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.n_weights * math.prod(self.out)

    @property
    def is_depthwise(self) -> bool:
        """Whether its channels are in groups."""
        return self.groups > 1


def weighted_layers(
    network: nn.Module, input_shape: tuple[int, int, int], float_input_bits: int = WIDEST
) -> list[WeightedLayer]:
    """The convolutions and linear layers a forward pass of one image meets, in that order.

    Weights have the bits of their quantizers, inputs those of the quantizer whose output they are,
    or look at; without one it is 16 bits, and 8 for the image.

    Args:
        network: pruned, quantized and calibrated; put into evaluation mode.
        input_shape: `(C, H, W)` of the image.
        float_input_bits: of inputs other than the image that nothing quantized.
    """
    image = torch.zeros(1, *input_shape)
    pass_ = _Pass(image, float_input_bits)
    handles = []
    for module in network.modules():
        hook: Callable[..., None]
        match module:
            case ActivationQuantizer():
                hook = pass_.quantized
            case ConvUnit():
                hook = pass_.convolved
            case LinearUnit():
                hook = pass_.multiplied
            case _:
                continue
        handles.append(module.register_forward_hook(hook))
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        for handle in handles:
            handle.remove()
    return pass_.layers


class _Pass:
    """Notes layers as they run, and the bits that tensors were last quantized to."""

    def __init__(self, image: Tensor, float_input_bits: int) -> None:
        self.layers: list[WeightedLayer] = []
        self._float_input_bits = float_input_bits
        self._bits = {_memory(image): IMAGE_BITS}
        self._kept = [image]  # memory must stay taken as long as its address is known

    def quantized(self, module: ActivationQuantizer, args: tuple[Tensor], out: Tensor) -> None:
        self._bits[_memory(out)] = module.bits
        self._kept.append(out)

    def convolved(self, unit: ConvUnit, args: tuple[Tensor], out: Tensor) -> None:
        conv, (_, _, height, width) = unit.conv, args[0].shape
        layer = WeightedLayer(
            conv.in_channels,
            conv.out_channels,
            (height, width),
            _pair(conv.kernel_size),
            _pair(conv.stride),
            _padding(conv),
            conv.groups,
            *self._operands(unit, args[0]),
            _pair(conv.dilation),
        )
        self.layers.append(layer)

    def multiplied(self, unit: LinearUnit, args: tuple[Tensor], out: Tensor) -> None:
        linear, one = unit.linear, (1, 1)
        size = (math.prod(args[0].shape[1:-1]), 1)
        shape = (linear.in_features, linear.out_features, size, one, one, (0, 0), 1)
        self.layers.append(WeightedLayer(*shape, *self._operands(unit, args[0])))

    def _operands(self, unit: ConvUnit | LinearUnit, x: Tensor) -> Pair:
        """Bits of the weights and of the input."""
        quantizer = unit.weight_quantizer
        weight_bits = WIDEST if quantizer is None else quantizer.grid.bits
        return weight_bits, self._bits.get(_memory(x), self._float_input_bits)


def _memory(tensor: Tensor) -> int:
    """Equal for a tensor and those that look at the same values in another shape."""
    return tensor.untyped_storage().data_ptr()


def _padding(conv: nn.Conv2d) -> Pair:
    match conv.padding:
        case "valid":
            return 0, 0
        case "same":
            height, width = (
                d * (k - 1) // 2 for k, d in zip(conv.kernel_size, conv.dilation, strict=True)
            )
            return height, width
        case _:
            assert not isinstance(conv.padding, str)
            return _pair(conv.padding)


def _pair(sides: tuple[int, ...]) -> Pair:
    height, width = sides
    return height, width
