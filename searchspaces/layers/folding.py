"""What rounding does to a convolution whose batch norm is folded in."""

from __future__ import annotations

import torch
from torch import Tensor

from searchspaces.layers.units import HUGE_VARIANCE

MIN_SCALE = 1e-3
"""Of a norm; smaller ones count as this."""

MAX_EXCESS = 16.0
"""Of a variance over what it should be, that calibration makes up for."""


def moments(y: Tensor) -> tuple[Tensor, Tensor]:
    """`(C,)` mean and variance of each channel of `y (B, C, H, W)`; faster than `Tensor.var`."""
    mean = y.mean((0, 2, 3))
    return mean, (y - mean.reshape(-1, 1, 1)).square().mean((0, 2, 3))


def excess(found: Tensor, scale: Tensor, var: Tensor, per_channel: bool) -> Tensor:
    """`(n,)` variances after rounding over what a norm of `scale (n,)` makes them.

    Where channels share a step they share the excess: scaled each by itself they would get other
    codes than they were trained with, and one that rounding has silenced, scaled up, would silence
    the rest. Channels that never vary (see `living_variance`) do not count.

    Args:
        found: `(n,)` variances of what the rounded weight computes.
        scale: of the norm.
        var: `(n,)` variances by the float weight.
        per_channel: whether every channel has a step of its own.
    """
    wanted = scale.square().clamp_min(MIN_SCALE**2)
    if not per_channel:
        varies = var < HUGE_VARIANCE
        total = torch.where(varies, wanted, 0.0).sum().clamp_min(MIN_SCALE**2)
        found, wanted = torch.where(varies, found, 0.0).sum().expand_as(found), total
    return (found / wanted).clamp(1 / MAX_EXCESS, MAX_EXCESS)


def turning(weight: Tensor) -> Tensor:
    """`weight (out, in, k, k)`, whose gradients turn a channel's weights but leave their length.

    Reference: Salimans and Kingma 2016 (Weight normalization), equation 3.
    """
    length = weight.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
    return weight * (length.detach() / length)
