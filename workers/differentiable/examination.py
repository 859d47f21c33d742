"""Examining a relaxed network and its distribution: accuracies, the derived candidate, costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nas.core import Genotypes
from nas.core.expectation import Probabilities, drawn_rows
from searchspaces.relaxed import Mix, RelaxedNetwork
from workers.datasets import Dataset, Images, Labels
from workers.differentiable.distribution import Distribution
from workers.differentiable.health import Health
from workers.differentiable.resources import Limits

EVAL_BATCH = 256
N_TRIED = 512
"""Candidates drawn from the distribution to find a likely one that keeps the limits."""


@dataclass(frozen=True)
class Examiner:
    """Tells how a search is doing.

    Attributes:
        network: whose mixture and derived candidate are scored.
        distribution: over candidates.
        data: whose validation images.
        limits: on the costs of candidates.
        seed: of draws.
    """

    network: RelaxedNetwork
    distribution: Distribution
    data: Dataset
    limits: Limits
    seed: int

    def examine(
        self,
        epoch: int,
        temperature: float,
        rng: np.random.Generator,
        *,
        train_loss: float,
        weight_decay: float,
        curvature: float | None,
    ) -> Health:
        """The health after `epoch`; the last three are known from training."""
        data, distribution = self.data, self.distribution
        found = distribution.as_numpy(temperature)
        row = self._derived(found, epoch)
        mix = [p.detach() for p in distribution.probabilities(temperature)]
        costs = self.limits.costs(row[None])
        return Health(
            epoch=epoch,
            train_loss=train_loss,
            relaxed_accuracy=accuracy(self.network, mix, data.x_val, data.y_val),
            derived_accuracy=accuracy(
                self.network, distribution.one_hot(row), data.x_val, data.y_val
            ),
            entropy=float(distribution.entropy(temperature).detach()),
            parameter_free_share=self._parameter_free_share(row),
            temperature=temperature,
            weight_decay=weight_decay,
            curvature=curvature,
            expected_costs=self.limits.expected_costs(distribution, temperature, rng),
            derived_costs={name: float(column[0]) for name, column in costs.items()},
            probabilities=[p.tolist() for p in found],
            derived=row.tolist(),
            slopes=[(b.detach() / temperature).tolist() for b in distribution.slopes],
        )

    def _derived(self, found: Probabilities, epoch: int) -> Genotypes:
        """`(d,)` row of the likeliest candidate that keeps the limits, if any drawn one does."""
        space = self.network.space
        likeliest = np.array([[int(p.argmax()) for p in found]], dtype=np.int16)
        row = space.canonical(likeliest)
        if not self.limits.met(row)[0]:
            rng = np.random.default_rng((self.seed, epoch, 3))
            raw = drawn_rows(found, N_TRIED, rng)
            rows = space.canonical(raw)
            met = self.limits.met(rows)
            logs = sum(np.log(p + 1e-12)[raw[:, i]] for i, p in enumerate(found))
            if met.any():
                row = rows[[int(np.where(met, logs, -np.inf).argmax())]]
        return np.asarray(row[0])

    def _parameter_free_share(self, row: Genotypes) -> float:
        """Share of the derived candidate's operations that have no weights."""
        flags = [
            free[option]
            for free, option in zip(self.network.parameter_free, row, strict=True)
            if any(free) and option >= 0
        ]
        return float(np.mean(flags)) if flags else 0.0


@torch.no_grad()
def accuracy(network: RelaxedNetwork, mix: Mix, x: Images, y: Labels) -> float:
    """Share of images classified right by a mixture with the shared weights.

    Images are shuffled first: norms know the batch alone, and must not see one class in it.
    """
    order = np.random.default_rng(0).permutation(len(y))
    images, labels = torch.from_numpy(x[order]), torch.from_numpy(y[order])
    device = next(network.parameters()).device
    network.eval()
    right = 0
    for part, wanted in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
        found = network(part.to(device), mix).argmax(1).cpu()
        right += int((found == wanted).sum())
    return right / len(y)
