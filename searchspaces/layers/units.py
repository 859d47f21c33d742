"""A weighted layer with what belongs to it: norm, activation, quantizers."""

from __future__ import annotations

from abc import ABC
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from searchspaces.layers.quantizers import ActivationQuantizer, WeightQuantizer
from searchspaces.layers.sparsity import Sparsity

DEAD_SHARE = 0.01
"""Share of a norm's eps below which a variance is that of a channel that never varies."""

HUGE_VARIANCE = 1e12


class ConvUnit(nn.Module):
    """Convolution, batch norm, activation; `same` padding for odd kernels.

    Attributes:
        norm: None once folded into the convolution.
        sparsity: which weights count as zero; None for all of them being there.
        weight_quantizer, output_quantizer: None where values stay float.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
        norm: bool = True,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, dilation, groups, bias=not norm)
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(n_out) if norm else None
        self.activation = activation
        self.sparsity: Sparsity | None = None
        self.weight_quantizer: WeightQuantizer | None = None
        self.output_quantizer: ActivationQuantizer | None = None

    @classmethod
    def of(cls, conv: nn.Conv2d, norm: nn.Module | None, activation: nn.Module | None) -> Self:
        """A unit of existing layers; a convolution without norm or bias gets a bias of zero."""
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        unit = cls(1, 1, activation=activation)
        unit.conv, unit.norm = conv, norm
        if norm is None and conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
        return unit

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, n_out, H / stride, W / stride)`, rounded up."""
        sparse = self.sparsity is not None and not torch.onnx.is_in_onnx_export()
        if self.weight_quantizer is None and not sparse:
            x = self.conv(x)
        else:
            conv, weight = self.conv, self.conv.weight
            if self.sparsity is not None and sparse:
                weight = self.sparsity.apply(weight)
            if self.weight_quantizer is not None:
                weight = self.weight_quantizer(weight)
            x = F.conv2d(
                x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
            )
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None and not self._activation_is_implied:
            x = self.activation(x)
        return x if self.output_quantizer is None else self.output_quantizer(x)

    @property
    def _activation_is_implied(self) -> bool:
        """Whether an export may leave ReLU6 to the quantizer, so that runtimes fuse the layer."""
        quantizer = self.output_quantizer
        return (
            torch.onnx.is_in_onnx_export()
            and quantizer is not None
            and isinstance(self.activation, nn.ReLU6)
            and quantizer.clips_like_relu6
        )

    @torch.no_grad()
    def write_zeros(self) -> None:
        """Set the weights that count as zero to zero, as an export takes them for granted."""
        if self.sparsity is not None:
            self.conv.weight.mul_(self.sparsity.mask(self.conv.weight))

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Move the batch norm into the convolution; in evaluation mode the output is the same.

        A channel that never varied becomes the constant it was (see `living_variance`).
        """
        norm, conv = self.norm, self.conv
        if norm is None:
            return
        assert norm.running_mean is not None and norm.running_var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,
            living_variance(norm.running_var, norm.eps),
            norm.eps,
            norm.weight,
            norm.bias,
        )
        self.norm = None

    @torch.no_grad()
    def keep_outputs(self, keep: Tensor) -> None:
        """Remove all output channels but `keep (n,)`."""
        conv = self.conv
        conv.weight = nn.Parameter(conv.weight[keep])
        if conv.bias is not None:
            conv.bias = nn.Parameter(conv.bias[keep])
        conv.out_channels = len(keep)
        if conv.groups > 1:
            conv.groups = conv.in_channels = len(keep)
        if self.norm is not None:
            self.norm = _kept_norm(self.norm, keep)

    @torch.no_grad()
    def keep_inputs(self, keep: Tensor) -> None:
        """Remove all input channels but `keep (n,)`; not for grouped convolutions."""
        self.conv.weight = nn.Parameter(self.conv.weight[:, keep])
        self.conv.in_channels = len(keep)


class LinearUnit(nn.Module):
    """A linear layer whose weight may be quantized."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)
        self.weight_quantizer: WeightQuantizer | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> Self:
        """A unit of an existing layer, which gets a bias of zero where it has none."""
        unit = cls(1, 1)
        unit.linear = linear
        if linear.bias is None:
            linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
        return unit

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in)` to `(B, n_out)`."""
        if self.weight_quantizer is None:
            out: Tensor = self.linear(x)
            return out
        return F.linear(x, self.weight_quantizer(self.linear.weight), self.linear.bias)


class Rounded(nn.Module, ABC):
    """Something without weights whose output may be quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.output_quantizer: ActivationQuantizer | None = None

    def rounded(self, x: Tensor) -> Tensor:
        """`x` of any shape at the bits of the output."""
        return x if self.output_quantizer is None else self.output_quantizer(x)


class Rounding(Rounded):
    """Nothing but the rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` of any shape at the bits of the output."""
        return self.rounded(x)


def living_variance(variance: Tensor, eps: float) -> Tensor:
    """`(n,)` variances to fold a batch norm with; a channel that never varied has a huge one.

    Its weights then vanish and it stays the constant it was. With its own variance they would be
    multiplied by hundreds, and where channels share a quantization step, all others become zero.
    """
    return torch.where(variance < DEAD_SHARE * eps, HUGE_VARIANCE, variance)


def _kept_norm(norm: nn.BatchNorm2d, keep: Tensor) -> nn.BatchNorm2d:
    kept = nn.BatchNorm2d(len(keep), eps=norm.eps, momentum=norm.momentum).to(norm.weight.device)
    state = norm.state_dict()
    kept.load_state_dict({k: v[keep] if v.ndim else v for k, v in state.items()})
    return kept.train(norm.training)
