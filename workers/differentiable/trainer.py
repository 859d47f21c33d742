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
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import ConflictError, Report
from searchspaces.relaxed import Mix, RelaxedNetwork
from workers.checkpoints import (
    Groups,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from workers.datasets import Dataset
from workers.differentiable.adaptation import AdaptiveDecay
from workers.differentiable.charges import charge
from workers.differentiable.distribution import Distribution, Draw
from workers.differentiable.examination import Examiner
from workers.differentiable.gradients import Bilevel, by_logits, largest_curvature, score_function
from workers.differentiable.health import (
    CURVATURE_EPOCHS,
    Health,
    curvature_has_grown,
    kept_epoch,
)
from workers.differentiable.resources import Limits
from workers.differentiable.schedules import learning_rate, temperature_at
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.teachers import VotingTeachers

CHECKPOINT_VERSION = 2
MOMENTUM = 0.9
BETAS = (0.5, 0.999)
CURVATURE_IMAGES = 128
N_SCORED = 4
"""Candidates a step of the score-function gradient."""

MAX_DRAWS = 1000
"""Until a candidate is connected; the last is taken as it is."""


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
        self.distribution = Distribution(options, network.parameter_free, generator).to(device)
        self._data, self._settings, self._seed = data, settings, seed
        self._limits, self._device = limits, device
        self._x = torch.from_numpy(data.x_train).to(device)
        self._y = torch.from_numpy(data.y_train).to(device)
        order = np.random.default_rng((seed, 7)).permutation(len(self._y))
        half = len(order) // 2
        one_level = settings.is_one_level
        self._train_index, self._held_out = (
            (order, order) if one_level else (order[:half], order[half:])
        )
        self._weights = list(self.network.parameters())
        self._logits = list(self.distribution.logits)
        self._of_weights = torch.optim.SGD(
            self._weights, settings.learning_rate, MOMENTUM, weight_decay=settings.weight_decay
        )
        self._of_logits = torch.optim.Adam(
            self._logits,
            settings.architecture_rate,
            BETAS,
            weight_decay=settings.architecture_decay,
        )
        self._teachers = VotingTeachers(settings.teachers)
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
            "of_weights": optimizer_tensors(self._of_weights),
            "of_logits": optimizer_tensors(self._of_logits),
        }

    def _restore(self, state: Groups) -> None:
        self.network.load_state_dict(state.get("weights", {}))
        self.distribution.load_state_dict(state["distribution"])
        restore_optimizer(self._of_weights, state.get("of_weights", {}))
        restore_optimizer(self._of_logits, state.get("of_logits", {}))

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
        learns = epoch >= settings.warm_up * settings.epochs
        self.network.train()
        for i, (index, held_out) in enumerate(pairs):
            progress = (epoch + i / len(pairs)) / settings.epochs
            temperature = self._temperature(progress)
            for group in self._of_weights.param_groups:
                group["lr"] = learning_rate(settings, progress)
                group["weight_decay"] = self._decay.value
            if learns:
                self._step_logits(index, held_out, temperature, generator, rng)
            losses.append(self._step_weights(index, temperature, generator))
        done = epoch + 1
        temperature = self._temperature(done / settings.epochs)
        if settings.teachers and done % settings.teacher_epochs == 0:
            mix = self.distribution.probabilities(temperature)
            self._teachers.add(done, self.network, mix, self._decay.earliest(done))
        measured = settings.curvature != "off" and learns and done % CURVATURE_EPOCHS == 0
        curvature = self._curvature(temperature, rng) if measured else None
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

    def _step_weights(
        self, index: NDArray[np.int64], temperature: float, generator: torch.Generator
    ) -> float:
        draw = self._draw(generator)
        mix = [m.detach() for m in self.distribution.mix(self._settings, temperature, draw)]
        loss = self._loss(index, mix)
        self._of_weights.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._weights, self._settings.max_gradient)
        if torch.isfinite(norm):
            self._of_weights.step()
        return loss.item()

    def _step_logits(
        self,
        index: NDArray[np.int64],
        held_out: NDArray[np.int64],
        temperature: float,
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> None:
        settings = self._settings
        draw = self._draw(generator)
        if settings.gradient == "score-function":
            gradients = self._scored(held_out, generator)
        else:
            gradients = self._differentiated(index, held_out, temperature, draw)
        before = [logits.detach().clone() for logits in self._logits]
        self._of_logits.zero_grad(set_to_none=True)
        for logits, gradient in zip(self._logits, gradients, strict=True):
            logits.grad = gradient
        charged = charge(settings, self._limits, self.distribution, temperature, rng)
        if charged is not None:
            charged.backward()
        if all(
            torch.isfinite(logits.grad).all() for logits in self._logits if logits.grad is not None
        ):
            self._of_logits.step()
        if settings.drop:
            self.distribution.keep_dropped_shares(before, draw)
        if settings.resources == "projection":
            self._limits.project(self.distribution, temperature, rng)

    def _differentiated(
        self,
        index: NDArray[np.int64],
        held_out: NDArray[np.int64],
        temperature: float,
        draw: Draw,
    ) -> list[Tensor]:
        """The held-out loss's gradient by the logits, through one mixture."""
        settings = self._settings
        problem = Bilevel(
            self._weights,
            self._logits,
            train=lambda: self._loss(index, self.distribution.mix(settings, temperature, draw)),
            held_out=lambda: self._loss(
                held_out, self.distribution.mix(settings, temperature, draw)
            ),
        )
        return by_logits(problem, settings, float(self._of_weights.param_groups[0]["lr"]))

    def _scored(self, held_out: NDArray[np.int64], generator: torch.Generator) -> list[Tensor]:
        """The expected held-out loss's gradient by the logits, from drawn candidates."""
        losses, logs = [], []
        for _ in range(N_SCORED):
            drawn = self.distribution.drawn_row(self._draw(generator))
            with torch.no_grad():
                losses.append(self._loss(held_out, self.distribution.one_hot(drawn)))
            row = self.network.space.canonical(drawn[None])[0]
            logs.append(self.distribution.log_probability(row))
        return score_function(torch.stack(losses), torch.stack(logs), self._logits)

    def _draw(self, generator: torch.Generator) -> Draw:
        """What chance decides of a step; where it picks one candidate, one that is connected."""
        settings, space = self._settings, self.network.space
        for _ in range(MAX_DRAWS):
            draw = self.distribution.draw(settings, generator)
            if settings.sampling != "straight-through":
                break
            row = space.canonical(self.distribution.drawn_row(draw)[None])
            if self._limits.connected(row)[0]:
                break
        return draw

    def _loss(self, index: NDArray[np.int64], mix: Mix) -> Tensor:
        """Cross-entropy, and the divergence from the teachers' vote where there are any."""
        settings = self._settings
        x, y = self._x[index], self._y[index]
        logits = self.network(x, mix)
        loss = F.cross_entropy(logits, y)
        if self._teachers.states:
            loss = loss + settings.teacher_weight * self._teachers.loss(self.network, x, logits)
        return loss

    def _curvature(self, temperature: float, rng: np.random.Generator) -> float:
        """Dominant eigenvalue of the held-out loss by the logits, on one large batch."""
        n = min(CURVATURE_IMAGES, len(self._held_out))
        index = rng.choice(self._held_out, n, replace=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        x, y = self._x[index], self._y[index]
        self.network.eval()

        def loss() -> Tensor:
            return F.cross_entropy(self.network(x, self.distribution.probabilities(temperature)), y)

        return largest_curvature(loss, self._logits, generator)

    def _temperature(self, progress: float) -> float:
        return temperature_at(self._settings, min(progress, 1.0), self.distribution)
