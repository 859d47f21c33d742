"""A small relaxed network to train, with a cost, and what trains it as a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import searchspaces
from nas.core import (
    Candidate,
    Evaluation,
    Evaluator,
    Fidelity,
    Goals,
    Report,
)
from searchspaces.cells.skeleton import Skeleton
from searchspaces.cells.topology import Dense, cell_space
from searchspaces.relaxed import RelaxedCells
from workers.datasets import Dataset
from workers.differentiable.distribution import Distribution
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import DifferentiableEvaluator
from workers.differentiable.trainer import DifferentiableTrainer

TOPOLOGY = Dense(3, ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"])
SPACE = cell_space(TOPOLOGY)
FEW = DifferentiableSettings(
    epochs=4,
    batch_size=64,
    architecture_rate=0.05,
    warm_up=0.0,
    levels=2,
    gradient="first",
    sampling="softmax",
    cost_weight=0.0,
)
FREE = [[True, True, False, False]] * 3
SMALL = {"n_stages": 1, "widths": [[8, 16]], "depths": [1, 2], "keep": [0.5, 1.0]}


def quiet(line: str) -> None: ...


def trainer(
    data: Dataset, settings: DifferentiableSettings, limits: Limits | None = None, seed: int = 3
) -> DifferentiableTrainer:
    torch.manual_seed(seed)
    network = RelaxedCells(SPACE, Skeleton.of(TOPOLOGY, (1, 8, 8), 10, width=4))
    return DifferentiableTrainer(
        network, data, settings, seed, limits or Limits(SPACE, convolutions)
    )


def convolutions(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of a cell's convolutions, in those of a 1x1 one."""
    return {"weights": np.array([0.0, 0.0, 1.0, 9.0])[rows].sum(axis=1)}


def state(trained: DifferentiableTrainer) -> Tensor:
    parameters = [*trained.network.parameters(), *trained.distribution.parameters()]
    return torch.cat([p.detach().flatten() for p in parameters])


BOUNDED = Limits.of(SPACE, convolutions, Goals.parse(["weights:min"], ["weights<=5"]))


def distribution(seed: int = 0) -> Distribution:
    found = Distribution([4, 4, 4], FREE, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for logits in found.logits:
            logits.copy_(torch.randn(4, generator=torch.Generator().manual_seed(seed + 1)))
    return found


class Nothing(Evaluator):
    """Scores everything alike."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        return Evaluation({"accuracy": 0.5})


def evaluator(
    data: Dataset, folder: Path, settings: DifferentiableSettings = FEW
) -> DifferentiableEvaluator:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    goals = Goals.parse(["accuracy", "weight_bytes"])
    return DifferentiableEvaluator(Nothing(), family, data, goals, settings, 0, folder)
