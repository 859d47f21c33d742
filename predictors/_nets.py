"""What neural predictors share: how layers start, and how nets learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def new_linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A layer with He initialisation drawn from `generator` and no bias yet."""
    linear = nn.Linear(n_in, n_out)
    nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(linear.bias)
    return linear


def descend(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    y: Tensor,
    n_steps: int,
    rate: float,
    weight_decay: float = 1e-2,
) -> None:
    """Full-batch AdamW steps on the Huber loss of `network(*inputs)` against `y`, in place."""
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        loss = nn.functional.huber_loss(network(*inputs), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
