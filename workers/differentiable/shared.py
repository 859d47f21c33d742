"""Learning a distribution over candidates as tasks of a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nas.core import (
    Candidate,
    Evaluation,
    EvaluationError,
    Evaluator,
    Fidelity,
    Goals,
    Report,
    SharedTrainer,
)
from nas.core.trial import DIFFERENTIABLE
from searchspaces import ModelFamily
from workers.checkpoints import alone_with
from workers.datasets import Dataset
from workers.differentiable.health import Health
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.trainer import DifferentiableTrainer
from workers.writing import needing_space


@dataclass(frozen=True)
class DifferentiableEvaluator(Evaluator, SharedTrainer):
    """Learns a distribution over the candidates of a family; everything else is `inner`'s.

    Attributes:
        inner: evaluates candidates, and trains other shared weights.
        family: whose relaxed network is trained.
        dataset: on which.
        goals: whose constraints and objectives on costs it keeps in mind.
        settings: how.
        seed: of everything random.
        folder: for its checkpoint.
    """

    inner: Evaluator
    family: ModelFamily
    dataset: Dataset
    goals: Goals
    settings: DifferentiableSettings
    seed: int
    folder: Path

    def train_shared(self, method: str, epochs: int, report: Report) -> Evaluation:
        """Train to `epochs` epochs, or find that it has had them.

        Metrics are the health of the epoch that counts, and how often the training went back; the
        provenance of `differentiable` holds every epoch, and the distribution by decision.

        Raises:
            EvaluationError: another method, which the inner evaluator does not know either.
        """
        if method != DIFFERENTIABLE:
            if isinstance(self.inner, SharedTrainer):
                return self.inner.train_shared(method, epochs, report)
            raise EvaluationError(
                f"this job trains shared weights by {DIFFERENTIABLE}, not {method}"
            )
        torch.set_num_threads(1)
        self.folder.mkdir(parents=True, exist_ok=True)
        trainer = new_trainer(self.family, self.dataset, self.goals, self.settings, self.seed)
        checkpoint = self.folder / f"{DIFFERENTIABLE}.safetensors"
        with needing_space(self.folder), alone_with(checkpoint):
            trainer.train(epochs, checkpoint, report)
        found = trainer.result()
        if found.has_collapsed:
            report(f"collapsed: {found.parameter_free_share:.0%} of operations have no weights")
        space = self.family.space
        about: dict[str, Any] = {
            "probabilities": dict(zip(space.names, found.probabilities, strict=True)),
            "tradeoffs": [
                dict(zip(space.names, probabilities, strict=True))
                for probabilities in found.tradeoffs(self.settings.candidates)
            ],
            "stopped": trainer.stopped,
            "rollbacks": trainer.rollbacks,
            "history": [asdict(health) for health in trainer.health],
        }
        counts = {"epochs": float(epochs), "rollbacks": float(trainer.rollbacks)}
        return Evaluation({**counts, **metrics_of(found)}, {DIFFERENTIABLE: about})

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        """Score `candidate` as the inner evaluator does."""
        return self.inner.evaluate(candidate, fidelity, report, effort)


def new_trainer(
    family: ModelFamily, data: Dataset, goals: Goals, settings: DifferentiableSettings, seed: int
) -> DifferentiableTrainer:
    """An untrained trainer for a family's space; on a GPU where there is one."""
    torch.manual_seed(seed % 2**63)
    network = family.relaxed(settings.quantization_noise)
    limits = Limits.of(family.space, family.costs, goals, family.connected)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return DifferentiableTrainer(network, data, settings, seed, limits, device)


def metrics_of(health: Health) -> dict[str, float]:
    """What a trial keeps of an epoch, as plain numbers."""
    found = {
        "relaxed_accuracy": health.relaxed_accuracy,
        "derived_accuracy": health.derived_accuracy,
        "discretization_gap": health.gap,
        "entropy": health.entropy,
        "parameter_free_share": health.parameter_free_share,
        "collapsed": float(health.has_collapsed),
        **{f"expected_{name}": value for name, value in health.expected_costs.items()},
        **{f"derived_{name}": value for name, value in health.derived_costs.items()},
    }
    return found if health.curvature is None else {**found, "curvature": health.curvature}
