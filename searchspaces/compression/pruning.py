"""Channel pruning: a keep ratio per stage, applied to the expanded channels of its blocks.

Reference: Wang et al. 2020 (APQ), section 3.1: pruning is a choice of middle channel counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Decision, SearchSpace
from searchspaces.network import Bottleneck

MULTIPLE = 4


def pruning_space(n_stages: int, ratios: Sequence[float]) -> SearchSpace:
    """One `stageN.keep` decision per stage."""
    names = [f"stage{i}.keep" for i in range(1, n_stages + 1)]
    return SearchSpace(tuple(Decision(name, tuple(ratios)) for name in names))


def kept_channels(
    hidden: NDArray[np.float64] | float, ratio: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Channels left of `hidden`: multiples of 4, rounded to nearest, at least 4, at most all."""
    rounded = np.floor(np.asarray(hidden) * ratio / MULTIPLE + 0.5) * MULTIPLE
    return np.asarray(np.minimum(np.maximum(rounded, MULTIPLE), hidden), dtype=np.float64)


def prune_hidden(block: Bottleneck, ratio: float) -> None:
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
def hidden_importance(block: Bottleneck) -> Tensor:
    """`(hidden,)` L1 norms of all weights that touch a channel, each layer scaled to mean 1.

    Reference: Li et al. 2017 (Pruning filters for efficient ConvNets), section 3.1, summed over
    the coupled layers.
    """
    norms = [
        block.expand.conv.weight.abs().sum((1, 2, 3)),
        block.depthwise.conv.weight.abs().sum((1, 2, 3)),
        block.project.conv.weight.abs().sum((0, 2, 3)),
    ]
    return torch.stack([norm / norm.mean().clamp_min(1e-12) for norm in norms]).sum(0)
