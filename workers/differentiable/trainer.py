"""Training a relaxed network and the distribution over its candidates, epoch by epoch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import ConflictError, Genotypes, Report
from nas.core.expectation import Probabilities, drawn_rows
from searchspaces.relaxed import Mix, RelaxedNetwork
from workers.checkpoints import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from workers.datasets import Dataset, Images, Labels
from workers.differentiable.distribution import Distribution, temperature_at
from workers.differentiable.gradients import (
    Bilevel,
    amended,
    first_order,
    largest_curvature,
    second_order,
)
from workers.differentiable.health import Health, curvature_has_grown, kept_epoch
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings

CHECKPOINT_VERSION = 1
MOMENTUM = 0.9
BETAS = (0.5, 0.999)
CURVATURE_EPOCHS = 2
CURVATURE_IMAGES = 128
EVAL_BATCH = 256
N_TRIED = 512
"""Candidates drawn from the distribution to find a likely one that keeps the limits."""


class DifferentiableTrainer:
    """Alternates steps of the weights on one half of the images and of the logits on the other.

    Every random draw is a function of seed and epoch, so a resumed training goes on exactly as an
    unbroken one.

    Args:
        network: whose weights and mixtures.
        data: training images are learned from, validation images tell health.
        settings: how.
        seed: of everything random.
        limits: on the costs of candidates.
        device: where.

    Attributes:
        health: one record an epoch.

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
        self._teachers: list[dict[str, Tensor]] = []

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.health)

    @property
    def stopped(self) -> bool:
        """Whether growing curvature ended the training."""
        wanted = self._settings.curvature == "stop"
        return wanted and curvature_has_grown([h.curvature for h in self.health])

    def train(self, until: int, checkpoint: Path | None = None, report: Report = print) -> None:
        """Go on to `until` epochs in all, from the checkpoint where there is one.

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
        return self.health[kept_epoch([h.curvature for h in self.health]) - 1]

    def _derived(self, found: Probabilities) -> Genotypes:
        """`(d,)` row of the likeliest candidate that keeps the limits, if any drawn one does."""
        space = self.network.space
        likeliest = np.array([[int(p.argmax()) for p in found]], dtype=np.int16)
        row = space.canonical(likeliest)
        if not self._limits.met(row)[0]:
            rng = np.random.default_rng((self._seed, self.epoch, 3))
            raw = drawn_rows(found, N_TRIED, rng)
            rows = space.canonical(raw)
            met = self._limits.met(rows)
            logs = sum(np.log(p + 1e-12)[raw[:, i]] for i, p in enumerate(found))
            if met.any():
                row = rows[[int(np.where(met, logs, -np.inf).argmax())]]
        return np.asarray(row[0])

    @torch.no_grad()
    def accuracy(self, mix: Mix, x: Images, y: Labels) -> float:
        """Share of images classified right by a mixture with the shared weights.

        Images are shuffled first: norms know the batch alone, and must not see one class in it.
        """
        order = np.random.default_rng(0).permutation(len(y))
        images, labels = torch.from_numpy(x[order]), torch.from_numpy(y[order])
        self.network.eval()
        right = 0
        for part, wanted in zip(images.split(EVAL_BATCH), labels.split(EVAL_BATCH), strict=True):
            found = self.network(part.to(self._device), mix).argmax(1).cpu()
            right += int((found == wanted).sum())
        return right / len(y)

    # ---------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> None:
        """Write everything the training needs to go on to one file, whole or not at all."""
        groups = {
            "weights": self.network.state_dict(),
            "distribution": self.distribution.state_dict(),
            "of_weights": optimizer_tensors(self._of_weights),
            "of_logits": optimizer_tensors(self._of_logits),
            **{f"teacher{i}": state for i, state in enumerate(self._teachers)},
        }
        health = [asdict(h) for h in self.health]
        save_checkpoint(path, groups, {"health": health, **self._identity()})

    def load(self, path: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            ConflictError: it was written by a training of another space, seed or settings.
        """
        groups, about = load_checkpoint(path, self._identity())
        self.network.load_state_dict(groups.get("weights", {}))
        self.distribution.load_state_dict(groups["distribution"])
        restore_optimizer(self._of_weights, groups.get("of_weights", {}))
        restore_optimizer(self._of_logits, groups.get("of_logits", {}))
        names = sorted((n for n in groups if n.startswith("teacher")), key=lambda n: int(n[7:]))
        self._teachers = [
            {k: v.to(self._device) for k, v in groups[name].items()} for name in names
        ]
        self.health = [Health(**h) for h in about["health"]]

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
        self.network.train()
        for i, (index, held_out) in enumerate(pairs):
            progress = (epoch + i / len(pairs)) / settings.epochs
            temperature = self._temperature(progress)
            for group in self._of_weights.param_groups:
                group["lr"] = learning_rate(settings, progress)
            if epoch >= settings.warm_up * settings.epochs:
                self._step_logits(index, held_out, temperature, generator, rng)
            losses.append(self._step_weights(index, temperature, generator))
        if settings.teachers and (epoch + 1) % settings.teacher_epochs == 0:
            self._teachers = [*self._teachers, self._state()][-settings.teachers :]
        return self._examined(float(np.mean(losses)), rng)

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
        draw = self.distribution.draw(self._settings, generator)
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
        draw = self.distribution.draw(settings, generator)
        problem = Bilevel(
            self._weights,
            self._logits,
            train=lambda: self._loss(index, self.distribution.mix(settings, temperature, draw)),
            held_out=lambda: self._loss(
                held_out, self.distribution.mix(settings, temperature, draw)
            ),
        )
        rate = float(self._of_weights.param_groups[0]["lr"])
        match settings.gradient:
            case "second":
                gradients = second_order(problem, rate)
            case "amended":
                gradients = amended(problem, settings.amended_rate)
            case "first" | "one-level":
                gradients = first_order(problem)
        before = [logits.detach().clone() for logits in self._logits]
        self._of_logits.zero_grad(set_to_none=True)
        for logits, gradient in zip(self._logits, gradients, strict=True):
            logits.grad = gradient
        self._regularisation(temperature, rng)
        if all(
            torch.isfinite(logits.grad).all() for logits in self._logits if logits.grad is not None
        ):
            self._of_logits.step()
        if settings.drop:
            self.distribution.keep_dropped_shares(before, draw)
        if settings.resources == "projection":
            self._limits.project(self.distribution, temperature, rng)

    def _regularisation(self, temperature: float, rng: np.random.Generator) -> None:
        """Add the gradients of what the distribution itself is charged for."""
        settings = self._settings
        charges = []
        if settings.entropy_weight:
            charges.append(settings.entropy_weight * self.distribution.entropy(temperature))
        if settings.resources == "penalty":
            excess = self._limits.excess(self.distribution, temperature, rng)
            charges.append(settings.penalty_weight * excess)
        if settings.cost_weight:
            price = self._limits.price(self.distribution, temperature, rng)
            charges.append(settings.cost_weight * price)
        total = sum(charges)
        if isinstance(total, Tensor) and total.requires_grad:
            total.backward()

    def _loss(self, index: NDArray[np.int64], mix: Mix) -> Tensor:
        """Cross-entropy, and the divergence from the teachers' vote where there are any."""
        settings = self._settings
        x, y = self._x[index], self._y[index]
        logits = self.network(x, mix)
        loss = F.cross_entropy(logits, y)
        if self._teachers:
            vote = self._vote(x)
            learned = F.kl_div(logits.log_softmax(1), vote, reduction="batchmean")
            loss = loss + settings.teacher_weight * learned
        return loss

    # ---------------------------------------------------------------- teachers

    def _state(self) -> dict[str, Tensor]:
        """Weights and the mixture they are used with."""
        mix = self.distribution.probabilities(self._temperature(self.epoch / self._settings.epochs))
        state = {f"weights.{k}": v.detach().clone() for k, v in self.network.state_dict().items()}
        return state | {f"mix.{i:04}": m.detach().clone() for i, m in enumerate(mix)}

    @torch.no_grad()
    def _vote(self, x: Tensor) -> Tensor:
        """`(B, classes)` mean probabilities of the teachers.

        Reference: Zhu et al. 2023 (SD-DARTS), voting teachers.
        """
        votes = []
        for state in self._teachers:
            weights = {k[8:]: v for k, v in state.items() if k.startswith("weights.")}
            mix = [state[k] for k in sorted(state) if k.startswith("mix.")]
            logits = torch.func.functional_call(self.network, weights, (x, mix))
            votes.append(logits.softmax(1))
        return torch.stack(votes).mean(0)

    # ---------------------------------------------------------------- health

    def _examined(self, loss: float, rng: np.random.Generator) -> Health:
        done = self.epoch + 1
        temperature = self._temperature(done / self._settings.epochs)
        data, distribution = self._data, self.distribution
        found = distribution.as_numpy(temperature)
        row = self._derived(found)
        mix = [p.detach() for p in distribution.probabilities(temperature)]
        relaxed = self.accuracy(mix, data.x_val, data.y_val)
        alone = self.accuracy(distribution.one_hot(row), data.x_val, data.y_val)
        curvature = None
        if self._settings.curvature != "off" and done % CURVATURE_EPOCHS == 0:
            curvature = self._curvature(temperature, rng)
        costs = self._limits.costs(row[None])
        return Health(
            epoch=done,
            train_loss=loss,
            relaxed_accuracy=relaxed,
            derived_accuracy=alone,
            entropy=float(distribution.entropy(temperature).detach()),
            parameter_free_share=self._parameter_free_share(row),
            temperature=temperature,
            curvature=curvature,
            expected_costs=self._limits.expected_costs(distribution, temperature, rng),
            derived_costs={name: float(column[0]) for name, column in costs.items()},
            probabilities=[p.tolist() for p in found],
            derived=row.tolist(),
        )

    def _parameter_free_share(self, row: Genotypes) -> float:
        """Share of the derived candidate's operations that have no weights."""
        flags = [
            free[option]
            for free, option in zip(self.network.parameter_free, row, strict=True)
            if any(free) and option >= 0
        ]
        return float(np.mean(flags)) if flags else 0.0

    def _curvature(self, temperature: float, rng: np.random.Generator) -> float:
        """Dominant eigenvalue of the held-out loss by the logits, on one large batch."""
        n = min(CURVATURE_IMAGES, len(self._held_out))
        index = rng.choice(self._held_out, n, replace=False)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        x, y = self._x[index], self._y[index]

        def loss() -> Tensor:
            return F.cross_entropy(self.network(x, self.distribution.probabilities(temperature)), y)

        return largest_curvature(loss, self._logits, generator)

    def _temperature(self, progress: float) -> float:
        return temperature_at(self._settings, min(progress, 1.0), self.distribution)


def learning_rate(settings: DifferentiableSettings, progress: float) -> float:
    """Rate of the weights at `progress` of the training, 0 to 1.

    A cosine, or for orders above 1 a power of it normalised to the same ends.

    Reference: Hundt et al. 2019 (sharpDARTS), cosine power annealing.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    order = settings.annealing_order
    share = cosine if order == 1 else (order**cosine - 1) / (order - 1)
    return settings.least_rate + (settings.learning_rate - settings.least_rate) * share
