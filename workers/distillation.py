"""Losses by which smaller networks learn from larger ones, and by which weights suit few bits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Distillation = Literal["none", "kl", "alpha"]
MAX_RATIO = 5.0
UNIFORM_KURTOSIS = 1.8


def distillation_loss(student: Tensor, teacher: Tensor, kind: Distillation) -> Tensor:
    """`()` divergence of student from teacher, both `(B, classes)` logits; teacher has no gradient.

    `kl` is KL(teacher, student). `alpha` is, image by image, the larger of the divergences with
    alpha -1 and 1, importance ratios clipped at 5.

    Reference: Wang et al. 2021 (AlphaNet), equations 5 and 8; they clip the same ratios inside the
    gradient, here inside the divergence.
    """
    if kind == "none":
        return student.new_zeros(())
    p, log_q = teacher.detach().softmax(1), student.log_softmax(1)
    log_p = p.clamp_min(1e-12).log()
    kl = (p * (log_p - log_q)).sum(1)
    if kind == "kl":
        return kl.mean()
    ratio = (log_q - log_p).exp().clamp_max(MAX_RATIO)
    backward = 0.5 * (log_q.exp() * (ratio - 1)).sum(1)
    return torch.maximum(kl, backward).mean()


def moment_loss(network: nn.Module, kurtosis_weight: float, skewness_weight: float) -> Tensor:
    """`()` mean squared distance of weight kurtosis to 1.8 and of skewness to 0, over convolutions.

    The first convolution is left out. A uniform distribution has kurtosis 1.8 and skewness 0.

    Reference: Xu et al. 2023 (EQ-Net), equations 7 and 8.
    """
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d)][1:]
    total = torch.zeros((), device=convs[0].weight.device)
    for conv in convs:
        skewness, kurtosis = moments(conv.weight)
        total = total + kurtosis_weight * (kurtosis - UNIFORM_KURTOSIS).square()
        total = total + skewness_weight * skewness.square()
    return total / len(convs)


def moments(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`()` skewness and `()` kurtosis of all entries."""
    centred = weight - weight.mean()
    spread = centred.square().mean().sqrt().clamp_min(1e-8)
    scaled = centred / spread
    return scaled.pow(3).mean(), scaled.pow(4).mean()
