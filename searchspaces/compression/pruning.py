"""Pruning: a keep ratio per stage for the expanded channels of its blocks, and sparse weights.

Reference: Wang et al. 2020 (APQ), section 3.1: pruning is a choice of middle channel counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import Decision, InvalidInputError, SearchSpace
from searchspaces.layers import DENSE, ConvUnit, Sparsity
from searchspaces.network import Bottleneck

MULTIPLE = 4
Importance = Literal["l1", "norm", "taylor"]


def pruning_space(
    n_stages: int, ratios: Sequence[float], sparsities: Sequence[str] = (DENSE,)
) -> SearchSpace:
    """Per stage `keep` and, if there is anything but dense, `sparsity`."""
    decisions: list[Decision] = []
    for i in range(1, n_stages + 1):
        decisions.append(Decision(f"stage{i}.keep", tuple(ratios)))
        if tuple(sparsities) != (DENSE,):
            name = f"stage{i}.sparsity"
            decisions.append(Decision(name, tuple(sparsities), ordered=False))
    return SearchSpace(tuple(decisions))


def set_sparsity(block: Bottleneck[Any], sparsity: Sparsity | None) -> None:
    """Let the pointwise convolutions of `block`, plain or elastic, have zeros of this pattern."""
    block.expand.sparsity = block.project.sparsity = sparsity


@torch.no_grad()
def write_zeros(network: nn.Module) -> None:
    """Set all weights that count as zero to zero, in place; before a network is shipped."""
    for module in network.modules():
        if isinstance(module, ConvUnit):
            module.write_zeros()


@torch.no_grad()
def sparsify(network: nn.Module, sparsity: Sparsity) -> None:
    """Zero the smallest weights of every ungrouped convolution and linear layer of any network.

    The first convolution and the last linear layer stay dense. In place, once and for all.
    """
    layers = [
        m
        for m in network.modules()
        if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.groups == 1)
    ]
    for layer in layers[1:-1]:
        layer.weight.mul_(sparsity.mask(layer.weight))


def kept_channels(
    hidden: NDArray[np.float64] | float, ratio: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Channels left of `hidden`: multiples of 4, rounded to nearest, at least 4, at most all."""
    rounded = np.floor(np.asarray(hidden) * ratio / MULTIPLE + 0.5) * MULTIPLE
    return np.asarray(np.minimum(np.maximum(rounded, MULTIPLE), hidden), dtype=np.float64)


def prune_hidden(block: Bottleneck[ConvUnit], ratio: float) -> None:
    """Remove the least important expanded channels of `block`, in place and for real."""
    hidden = block.depthwise.conv.out_channels
    n_kept = int(kept_channels(hidden, ratio))
    if n_kept == hidden:
        return
    keep = hidden_importance(block).topk(n_kept).indices.sort().values
    block.expand.keep_outputs(keep)
    block.depthwise.keep_outputs(keep)
    if block.attention is not None:
        block.attention.squeeze.keep_inputs(keep)
        block.attention.excite.keep_outputs(keep)
    block.project.keep_inputs(keep)


@torch.no_grad()
def hidden_importance(block: Bottleneck[Any], kind: Importance = "l1") -> Tensor:
    """`(hidden,)` importance of each expanded channel, summed over the layers that share it.

    Args:
        block: plain or elastic.
        kind: `l1`, the norm of all weights that touch the channel; `norm`, the size of its
            batch-norm scales; `taylor`, the sum of weight times gradient, after a backward pass.

    Raises:
        InvalidInputError: `taylor` without gradients, `norm` without batch norms.

    Reference: Li et al. 2017 (Pruning filters for efficient ConvNets), section 3.1; Liu et al.
    2017 (Network slimming), section 3; Molchanov et al. 2019 (Importance estimation), equation 8.
    """
    layers = [(block.expand, (1, 2, 3)), (block.depthwise, (1, 2, 3)), (block.project, (0, 2, 3))]
    parts: list[Tensor] = []
    for unit, axes in layers:
        weight = unit.conv.weight
        match kind:
            case "l1":
                parts.append(weight.abs().sum(axes))
            case "taylor":
                if weight.grad is None:
                    raise InvalidInputError("importance", kind, "gradients: backward first")
                parts.append((weight * weight.grad).sum(axes).abs())
            case "norm" if unit is not block.project:
                if unit.norm is None:
                    raise InvalidInputError("importance", kind, "batch norms that are not folded")
                parts.append(unit.norm.weight.abs())
    return torch.stack([part / part.mean().clamp_min(1e-12) for part in parts]).sum(0)
