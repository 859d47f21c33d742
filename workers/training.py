"""Training networks: short, real, seeded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workers.datasets import Images, Labels

EVAL_BATCH = 512


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step.
        learning_rate: peak of a one-cycle schedule (Smith and Topin 2019).
        weight_decay: of AdamW (Loshchilov and Hutter 2019).
        label_smoothing: share of probability spread over all classes.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 8e-3
    weight_decay: float = 1e-3
    label_smoothing: float = 0.05


def train(
    network: nn.Module,
    x: Images,
    y: Labels,
    settings: TrainingSettings,
    seed: int,
    device: str = "cpu",
) -> None:
    """Train in place with AdamW and a one-cycle schedule; mixed precision on CUDA only.

    Args:
        network: any classifier of images.
        x: `(n, C, H, W)`.
        y: `(n,)`.
        settings: how.
        seed: of the batch order; same call, same weights on one device.
        device: where to train; the network stays there.
    """
    if settings.epochs == 0:
        return
    network.to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    batches_an_epoch = len(list(_batches(len(x), settings.batch_size, np.random.default_rng(0))))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * batches_an_epoch
    )
    mixed = torch.device(device).type == "cuda"
    images, labels = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
    rng = np.random.default_rng(seed)
    for _ in range(settings.epochs):
        for index in _batches(len(x), settings.batch_size, rng):
            chosen = torch.from_numpy(index).to(device)
            with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
                logits = network(images[chosen])
            loss = F.cross_entropy(
                logits.float(), labels[chosen], label_smoothing=settings.label_smoothing
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()


@torch.no_grad()
def logits_of(network: nn.Module, x: Images) -> Tensor:
    """`(n, classes)` logits in evaluation mode, on the CPU."""
    network.eval()
    device = next(network.parameters()).device
    parts = torch.from_numpy(x).split(EVAL_BATCH)
    return torch.cat([network(part.to(device)).float().cpu() for part in parts])


@torch.no_grad()
def recalibrate_batch_norm(network: nn.Module, x: Images) -> None:
    """Replace running statistics by plain averages over `x`, in batches.

    Reference: Yu and Huang 2019 (Universally slimmable networks), section 3.1.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    device = next(network.parameters()).device
    for part in torch.from_numpy(x).split(EVAL_BATCH):
        network(part.to(device))
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _batches(n: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Index batches of one shuffled pass; a last batch of one image joins the one before."""
    order = rng.permutation(n)
    starts = list(range(0, n, size))
    if n % size == 1 and len(starts) > 1:
        starts.pop()
    for i, start in enumerate(starts):
        yield order[start : starts[i + 1] if i + 1 < len(starts) else n]
