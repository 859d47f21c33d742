"""Layers that hold the weights of the largest choice and run at any smaller one.

A smaller layer uses the first channels, so channels must lie in order of importance (see
`searchspaces.elastic`). Where weights are quantized, what is quantized is the convolution with its
batch norm folded in, as in the network that is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.layers.folding import excess, moments, turning
from searchspaces.layers.quantizers import (
    FLOAT_BITS,
    TYPICAL_SHARES,
    ActivationQuantizer,
    WeightGrid,
    WeightQuantizer,
    activation_codes,
    least_squares_clip,
    quantize_activation,
)
from searchspaces.layers.sparsity import Sparsity
from searchspaces.layers.units import DEAD_SHARE, ConvUnit, LinearUnit, living_variance

RANGE_IMAGES = 64
"""Images whose range an activation's grid spans, in training and in calibration."""


class Calibration(Enum):
    """What a forward pass does to an elastic layer's statistics."""

    OFF = "off"
    """Training: batch statistics. Evaluation: what the last calibration left."""
    NORMS = "norms"
    """Float pass: batch-norm statistics become those of this batch."""
    GRIDS = "grids"
    """Quantized pass: norms, activation ranges and folded biases become those of this batch."""


class ElasticActivationQuantizer(nn.Module):
    """An activation quantizer of any width from 2 to 8 bits, or none.

    In training its range is the batch's, times a learned share per width. All candidates share what
    is learned, however many channels they have and whatever comes before, so calibration looks for
    range and share of the candidate itself.

    Attributes:
        bits: in use now; 32 passes values through.
        symmetric: in use now.
        calibration: what the next forward pass does.
    """

    low: Tensor
    high: Tensor
    clip: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bits = FLOAT_BITS
        self.symmetric = False
        self.calibration = Calibration.OFF
        self.clips = nn.ParameterDict(
            {str(bits): torch.tensor(share) for bits, share in TYPICAL_SHARES.items()}
        )
        self.register_buffer("low", torch.zeros(()), persistent=False)
        self.register_buffer("high", torch.zeros(()), persistent=False)
        self.register_buffer("clip", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tensor of any shape, on the grid in use."""
        if self.bits == FLOAT_BITS or self.calibration is Calibration.NORMS:
            return x
        codes = activation_codes(self.bits, self.symmetric)
        if self.training or self.calibration is Calibration.GRIDS:
            with torch.no_grad():
                self.low, self.high = mean_range(x)
        if self.calibration is Calibration.GRIDS:
            self.clip = least_squares_clip(x[:RANGE_IMAGES], self.low, self.high, codes)
        clip = self.clips[str(self.bits)] if self.training else self.clip
        return quantize_activation(x, self.low, self.high, clip, codes)

    def extract(self) -> ActivationQuantizer | None:
        """A plain quantizer with the grid in use; None where values pass through."""
        if self.bits == FLOAT_BITS:
            return None
        plain = ActivationQuantizer(self.bits, self.symmetric)
        plain.low.copy_(self.low)
        plain.high.copy_(self.high)
        plain.clip.data.copy_(self.clip)
        plain.observing = False
        return plain


def mean_range(x: Tensor) -> tuple[Tensor, Tensor]:
    """`()` least and largest value, and 0 between, in the mean over pieces of 64 images.

    The range of a few hundred images is wider than that of a training batch; with 2 bits, steps
    that much wider than those trained with leave nothing of an activation.
    """
    pieces = [(piece.amin(), piece.amax()) for piece in x.split(RANGE_IMAGES)]
    low = torch.stack([low for low, _ in pieces]).mean()
    high = torch.stack([high for _, high in pieces]).mean()
    return low.clamp_max(0), high.clamp_min(0)


class _ElasticWeightSteps(nn.Module):
    """Learned step factors per width, granularity and symmetry, and the grid in use."""

    def __init__(self) -> None:
        super().__init__()
        self.grid: WeightGrid | None = None
        kinds = ("channel", "tensor", "asymmetric")
        self.factors = nn.ParameterDict(
            {f"{b}_{k}": torch.tensor(s) for b, s in TYPICAL_SHARES.items() for k in kinds}
        )

    @property
    def factor(self) -> Tensor:
        """`()` parameter of the grid in use."""
        assert self.grid is not None
        kind = "channel" if self.grid.per_channel else "tensor"
        return self.factors[f"{self.grid.bits}_{kind if self.grid.symmetric else 'asymmetric'}"]

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on the grid in use, or as it is."""
        return weight if self.grid is None else self.grid.quantize(weight, self.factor)

    def extract(self) -> WeightQuantizer | None:
        """A plain quantizer with the grid in use."""
        if self.grid is None:
            return None
        plain = WeightQuantizer(self.grid)
        plain.factor.data.copy_(self.factor.detach())
        return plain


class ElasticConvUnit(nn.Module):
    """Convolution, batch norm, activation for any number of channels up to the largest.

    Smaller kernels are the centre of the next larger one times a learned matrix.

    Attributes:
        n_in, n_out, kernel: in use now; `n_in` is of no account for depthwise convolutions.
        sparsity: in use now.
        weight_quantizer: with the grid in use.
        output_quantizer: with the bits in use.
        calibration: what the next forward pass does.

    Reference: Cai et al. 2020 (Once-for-all), section 3.3, for kernels and channels.
    """

    folded_bias: Tensor

    def __init__(
        self,
        max_in: int,
        max_out: int,
        kernels: Sequence[int] = (1,),
        stride: int = 1,
        depthwise: bool = False,
        activation: nn.Module | None = None,
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.depthwise, self.activation = stride, depthwise, activation
        self.n_in, self.n_out, self.kernel = max_in, max_out, max(kernels)
        self._kernels = sorted(kernels, reverse=True)
        groups = max_out if depthwise else 1
        self.conv = nn.Conv2d(max_in, max_out, self.kernel, groups=groups, bias=not norm)
        self.norm = nn.BatchNorm2d(max_out) if norm else None
        self.sparsity: Sparsity | None = None
        self.transforms = nn.ParameterDict({str(k): torch.eye(k * k) for k in self._kernels[1:]})
        self.weight_quantizer = _ElasticWeightSteps()
        self.output_quantizer = ElasticActivationQuantizer()
        self.calibration = Calibration.OFF
        self.register_buffer("folded_bias", torch.zeros(max_out), persistent=False)

    def active_weight(self) -> Tensor:
        """`(n_out, n_in, kernel, kernel)` float weight in use; one input where depthwise."""
        n_in = 1 if self.depthwise else self.n_in
        weight = self.conv.weight[: self.n_out, :n_in]
        for larger, smaller in zip(self._kernels, self._kernels[1:], strict=False):
            if larger <= self.kernel:
                break
            edge = (larger - smaller) // 2
            centre = weight[:, :, edge : edge + smaller, edge : edge + smaller]
            flat = centre.reshape(*weight.shape[:2], -1)  # (o, i, k * k)
            weight = (flat @ self.transforms[str(smaller)]).reshape(centre.shape)
        weight = weight.contiguous()
        return weight if self.sparsity is None else self.sparsity.apply(weight)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, n_out, H / stride, W / stride)`, rounded up."""
        weight = self.active_weight()
        if self.norm is None:
            assert self.conv.bias is not None
            if self.calibration is not Calibration.NORMS:
                weight = self.weight_quantizer(weight)
            x = self._convolved(x, weight, self.conv.bias[: self.n_out])
        elif self.calibration is Calibration.NORMS:
            x = self._normed(self._convolved(x, weight, None), self.norm)
        elif self.training:
            x = self._trained(x, weight, self.norm)
        else:
            x = self._folded(x, weight, self.norm)
        if self.activation is not None:
            x = self.activation(x)
        return self.output_quantizer(x)

    @torch.no_grad()
    def extract(self) -> ConvUnit:
        """A plain float unit with the weights and statistics in use."""
        n_in = self.n_out if self.depthwise else self.n_in
        groups = self.n_out if self.depthwise else 1
        norm = self.norm
        plain = ConvUnit(
            n_in, self.n_out, self.kernel, self.stride, groups, self.activation, norm is not None
        )
        plain.conv.weight.copy_(self.active_weight())
        plain.sparsity = self.sparsity
        if norm is not None and plain.norm is not None:
            for ours, theirs in zip(
                self._statistics(norm), self._statistics(plain.norm), strict=True
            ):
                theirs.copy_(ours)
        elif self.conv.bias is not None and plain.conv.bias is not None:
            plain.conv.bias.copy_(self.conv.bias[: self.n_out])
        return plain

    @torch.no_grad()
    def give_grids(self, plain: ConvUnit) -> None:
        """Set quantizers and bias of a plain folded unit to those in use."""
        plain.weight_quantizer = self.weight_quantizer.extract()
        plain.output_quantizer = self.output_quantizer.extract()
        if plain.weight_quantizer is not None and self.norm is not None:
            assert plain.conv.bias is not None
            plain.conv.bias.copy_(self.folded_bias[: self.n_out])

    # ---------------------------------------------------------------- inside

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        groups = self.n_out if self.depthwise else 1
        return F.conv2d(x, weight, bias, self.stride, self.kernel // 2, 1, groups)

    def _statistics(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Views of mean, variance, scale and shift in use."""
        assert norm.running_mean is not None and norm.running_var is not None
        n = self.n_out
        return norm.running_mean[:n], norm.running_var[:n], norm.weight[:n], norm.bias[:n]

    def _normed(self, y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        mean, var, scale, shift = self._statistics(norm)
        refresh = self.calibration is Calibration.NORMS
        momentum = 1.0 if refresh else 0.1
        y = F.batch_norm(y, mean, var, scale, shift, self.training or refresh, momentum, norm.eps)
        if refresh:
            var.copy_(living_variance(var, norm.eps))
        return y

    def _trained(self, x: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """What leaves the norm in training: what `_folded` will compute once calibrated.

        With a step for every channel rounding commutes with folding, so the norm may follow.
        """
        grid = self.weight_quantizer.grid
        if grid is not None and not grid.per_channel:
            return self._with_common_step(x, weight, norm)
        return self._normed(self._convolved(x, self.weight_quantizer(weight), None), norm)

    def _with_common_step(self, x: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """The convolution folded, then rounded to steps that all its channels share.

        After rounding no channel can be scaled by itself, so means are set to the norm's, and only
        the spread of all channels together. The spread folded in is this batch's, by the float
        weight; gradients see it as constant, but none along a channel of the weight is left, since
        the norm undoes whatever length that has.

        Reference: Jacob et al. 2018, section 3.2, figure C.8.
        """
        scale, shift = norm.weight[: self.n_out], norm.bias[: self.n_out]
        with torch.no_grad():
            var = living_variance(moments(self._convolved(x, weight, None))[1], norm.eps)
        ratio = (scale * torch.rsqrt(var + norm.eps)).reshape(-1, 1, 1, 1)
        y = self._convolved(x, self.weight_quantizer(turning(weight) * ratio), None)
        mean, found = moments(y)
        common = excess(found, scale, var, per_channel=False)
        spread = torch.rsqrt(common).reshape(-1, 1, 1)
        return (y - mean.reshape(-1, 1, 1)) * spread + shift.reshape(-1, 1, 1)

    def _folded(self, x: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """The convolution with its norm folded in, step by step as a plain unit folds it."""
        if self.calibration is Calibration.GRIDS:
            self._refresh(x, weight, norm)
        mean, var, scale, shift = self._statistics(norm)
        spread = torch.rsqrt(var + norm.eps)
        folded = self.weight_quantizer(weight * (scale * spread).reshape(-1, 1, 1, 1))
        bias = self.folded_bias[: self.n_out]
        if self.weight_quantizer.grid is None:
            bias = (0 - mean) * spread * scale + shift
        elif self.calibration is Calibration.GRIDS:
            bias.copy_(shift - self._convolved(x, folded, None).mean((0, 2, 3)))
        return self._convolved(x, folded, bias)

    @torch.no_grad()
    def _refresh(self, x: Tensor, weight: Tensor, norm: nn.BatchNorm2d) -> None:
        """Set the norm's statistics so that what leaves the unit has mean and spread of a norm.

        `x` is rounded already, and rounding the weight changes the spread once more: with 2 bits
        by half and more, layer upon layer.
        """
        mean, var, scale, _ = self._statistics(norm)
        means, variances = moments(self._convolved(x, weight, None))
        mean.copy_(means)
        var.copy_(living_variance(variances, norm.eps))
        grid = self.weight_quantizer.grid
        if grid is None:
            return
        folded = self.weight_quantizer(
            weight * (scale * torch.rsqrt(var + norm.eps)).reshape(-1, 1, 1, 1)
        )
        found = moments(self._convolved(x, folded, None))[1]
        factor = excess(found, scale, var, grid.per_channel)
        alive = 2 * DEAD_SHARE * norm.eps  # lest a plain unit takes a corrected channel for dead
        var.copy_(((var + norm.eps) * factor - norm.eps).clamp_min(alive))


class ElasticLinearUnit(nn.Module):
    """A linear layer for any number of inputs up to the largest.

    Attributes:
        n_in: in use now.
        dropout: share of inputs dropped in training.
    """

    def __init__(self, max_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(max_in, n_out)
        self.n_in = max_in
        self.dropout = 0.0
        self.weight_quantizer = _ElasticWeightSteps()
        self.calibration = Calibration.OFF

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in)` to `(B, n_out)`."""
        x = F.dropout(x, self.dropout, self.training)
        weight = self.linear.weight[:, : self.n_in].contiguous()
        if self.calibration is not Calibration.NORMS:
            weight = self.weight_quantizer(weight)
        return F.linear(x, weight, self.linear.bias)

    @torch.no_grad()
    def extract(self) -> LinearUnit:
        """A plain float unit with the weights in use."""
        plain = LinearUnit(self.n_in, self.linear.out_features)
        plain.linear.weight.copy_(self.linear.weight[:, : self.n_in])
        plain.linear.bias.copy_(self.linear.bias)
        return plain

    def give_grids(self, plain: LinearUnit) -> None:
        """Set the quantizer of a plain unit to the one in use."""
        plain.weight_quantizer = self.weight_quantizer.extract()
