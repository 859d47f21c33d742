"""Training a relaxed network and the distribution over its candidates, epoch by epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from nas.core import ConflictError, Report
from searchspaces.relaxed import RelaxedNetwork
from workers.checkpoints import (
    Groups,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from workers.datasets import Dataset
from workers.differentiable.adaptation import AdaptiveDecay
from workers.differentiable.distribution import Distribution
from workers.differentiable.examination import Examiner
from workers.differentiable.gradients import largest_curvature
from workers.differentiable.health import (
    CURVATURE_EPOCHS,
    Health,
    curvature_has_grown,
    kept_epoch,
)
from workers.differentiable.resources import Limits
from workers.differentiable.schedules import learning_rate, temperature_at
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.steps import Steps
from workers.differentiable.teachers import VotingTeachers

CHECKPOINT_VERSION = 3
CURVATURE_IMAGES = 128


class DifferentiableTrainer:
    """Alternates steps of the weights on one half of the images and of the logits on the other.

    Every random draw is a function of seed and epoch, so a resumed training goes on exactly as an
    unbroken one. An epoch done again after going back draws what it drew before: nothing but the
    weight decay tells the two apart.

    Args:
        network: whose weights and mixtures.
        data: training images are learned from, validation images tell health.
        settings: how.
        seed: of everything random.
        limits: on the costs of candidates.
        device: where.

    Attributes:
        health: one record an epoch; of epochs done again, the last.

    Reference: Liu et al. 2019 (DARTS), algorithm 1.
    """

    def __init__(
        self,
        network: RelaxedNetwork,
        data: Dataset,
        settings: DifferentiableSettings,
        seed: int,
        limits: Limits,
        device: str = "cpu",
    ) -> None:
        self.network = network.to(device)
        self.health: list[Health] = []
        space = network.space
        generator = torch.Generator().manual_seed(seed % 2**63)
        options = [int(n) for n in space.n_options]
        follows = bool(limits.objectives) and settings.has_tradeoffs
        found = Distribution(options, network.parameter_free, generator, follows)
        self.distribution = found.to(device)
        self._data, self._settings, self._seed = data, settings, seed
        self._limits, self._device = limits, device
        order = np.random.default_rng((seed, 7)).permutation(len(data.y_train))
        half = len(order) // 2
        one_level = settings.is_one_level
        self._train_index, self._held_out = (
            (order, order) if one_level else (order[:half], order[half:])
        )
        self._teachers = VotingTeachers(settings.teachers)
        n = len(self._train_index)
        rate = settings.rate_of_logits(n // min(settings.batch_size, n))
        self._steps = Steps(
            self.network, self.distribution, data, settings, rate, limits, self._teachers, device
        )
        self._decay = AdaptiveDecay(settings)
        self._examiner = Examiner(self.network, self.distribution, data, limits, seed)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.health)

    @property
    def rollbacks(self) -> int:
        """Times the training went back to before curvature grew."""
        return self._decay.rollbacks

    @property
    def stopped(self) -> bool:
        """Whether growing curvature ended the training."""
        return self._settings.curvature == "stop" and curvature_has_grown(self._curvatures)

    def train(self, until: int, checkpoint: Path | None = None, report: Report = print) -> None:
        """Go on to `until` epochs in all, from the checkpoint where there is one.

        Epochs after which curvature has grown are done again with `adapt`, as often as its bound
        allows; past it the training goes on to its end.

        Raises:
            ConflictError: the checkpoint is of another training.
        """
        if checkpoint is not None and checkpoint.is_file():
            self.load(checkpoint)
        while self.epoch < min(until, self._settings.epochs) and not self.stopped:
            self.health.append(self._train_epoch())
            report(
                f"differentiable epoch {self.epoch} of {self._settings.epochs}: {self.health[-1]}"
            )
            self._adapt(report)
            if checkpoint is not None:
                self.save(checkpoint)

    def result(self) -> Health:
        """The epoch that counts: the last, or the one before curvature grew.

        Raises:
            ConflictError: not trained yet.
        """
        if not self.health:
            raise ConflictError("the relaxed network is not trained yet")
        if self._settings.curvature != "stop":
            return self.health[-1]
        return self.health[kept_epoch(self._curvatures) - 1]

    def _adapt(self, report: Report) -> None:
        """Go back to before curvature grew, where it did, and on from there with more decay.

        Reference: Zela et al. 2020 (R-DARTS), DARTS-ADA.
        """
        if self._settings.curvature != "adapt" or self.health[-1].curvature is None:
            return
        if self._decay.may_go_back and curvature_has_grown(self._curvatures):
            epoch = kept_epoch(self._curvatures)
            self._restore(self._decay.go_back(epoch))
            self._teachers.go_back(epoch)
            del self.health[epoch:]
            report(
                f"curvature has grown: back to epoch {epoch}, weight decay {self._decay.value:.3g} "
                f"(roll-back {self.rollbacks} of at most {self._settings.max_rollbacks})"
            )
        else:
            self._decay.keep(self.epoch, self._state())

    @property
    def _curvatures(self) -> list[float | None]:
        return [h.curvature for h in self.health]

    # ---------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> None:
        """Write everything the training needs to go on to one file, whole or not at all."""
        groups = {**self._state(), **self._teachers.groups(), **self._decay.groups()}
        about = {"health": [asdict(h) for h in self.health], "rollbacks": self.rollbacks}
        save_checkpoint(path, groups, {**about, **self._identity()})

    def load(self, path: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            ConflictError: it was written by a training of another space, seed or settings.
        """
        groups, about = load_checkpoint(path, self._identity())
        self._restore(groups)
        self._teachers.restore(groups, self._device)
        self._decay.restore(groups, about["rollbacks"])
        self.health = [Health(**h) for h in about["health"]]

    def _state(self) -> dict[str, dict[str, Tensor]]:
        """What an epoch changes, but for teachers; no copies."""
        return {
            "weights": self.network.state_dict(),
            "distribution": self.distribution.state_dict(),
            "of_weights": optimizer_tensors(self._steps.of_weights),
            "of_logits": optimizer_tensors(self._steps.of_logits),
        }

    def _restore(self, state: Groups) -> None:
        self.network.load_state_dict(state.get("weights", {}))
        self.distribution.load_state_dict(state["distribution"])
        restore_optimizer(self._steps.of_weights, state.get("of_weights", {}))
        restore_optimizer(self._steps.of_logits, state.get("of_logits", {}))

    def _identity(self) -> dict[str, object]:
        about = [
            CHECKPOINT_VERSION,
            self.network.space.digest,
            self._data.digest,
            {k: v for k, v in asdict(self._settings).items() if k != "candidates"},
            [str(c) for c in self._limits.constraints],
            self._limits.objectives,
            self._seed,
        ]
        text = json.dumps(about, sort_keys=True)
        return {"training": hashlib.sha256(text.encode()).hexdigest()[:16]}

    # ---------------------------------------------------------------- one epoch

    def _train_epoch(self) -> Health:
        settings, epoch = self._settings, self.epoch
        rng = np.random.default_rng((self._seed, epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        pairs = list(self._batches(rng))
        losses = []
        learns = settings.learns_in(epoch)
        self.network.train()
        for i, (index, held_out) in enumerate(pairs):
            progress = (epoch + i / len(pairs)) / settings.epochs
            temperature = self._temperature(progress)
            self._steps.set_rate(learning_rate(settings, progress), self._decay.value)
            losses.append(self._steps.take(index, held_out, temperature, learns, generator, rng))
        done = epoch + 1
        self.distribution.preference = 0.0
        temperature = self._temperature(done / settings.epochs)
        if settings.teachers and done % settings.teacher_epochs == 0:
            mix = self.distribution.probabilities(temperature)
            self._teachers.add(done, self.network, mix, self._decay.earliest(done))
        measured = settings.curvature != "off" and learns and done % CURVATURE_EPOCHS == 0
        curvature = self.curvature(temperature, rng) if measured else None
        return self._examiner.examine(
            done,
            temperature,
            rng,
            train_loss=float(np.mean(losses)),
            weight_decay=self._decay.value,
            curvature=curvature,
        )

    def _batches(
        self, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Batches of both halves; of the same images with one level."""
        size = self._settings.batch_size
        one = rng.permutation(self._train_index)
        other = one if self._settings.is_one_level else rng.permutation(self._held_out)
        n = min(len(one), len(other))
        size = min(size, n)
        for start in range(0, n - size + 1, size):
            yield one[start : start + size], other[start : start + size]

    def curvature(self, temperature: float, rng: np.random.Generator) -> float:
        """Dominant eigenvalue of the held-out loss by the logits, on one large batch."""
        n = min(CURVATURE_IMAGES, len(self._held_out))
        index = rng.choice(self._held_out, n, replace=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        x, y = self._steps.images(index)
        self.network.eval()

        def loss() -> Tensor:
            return F.cross_entropy(self.network(x, self.distribution.probabilities(temperature)), y)

        return largest_curvature(loss, list(self.distribution.bases), generator)

    def _temperature(self, progress: float) -> float:
        return temperature_at(self._settings, min(progress, 1.0), self.distribution)
