"""Training shared weights: each step trains the largest, the smallest, some random candidates."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import Candidate, Report, descend
from searchspaces import ModelFamily, Supernet
from workers.checkpoints import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from workers.datasets import Dataset
from workers.distillation import distillation_loss, moment_loss
from workers.replicas import ALONE, Replicas, float_buffers
from workers.sampling import PHASES, PathSampler, image_probabilities, phase_of
from workers.supernet_settings import SupernetSettings

CHECKPOINT_VERSION = 4
TAYLOR_IMAGES = 256


@dataclass(frozen=True)
class EpochReport:
    """What one epoch did, counted from 1: mean losses of the largest candidate and the others."""

    epoch: int
    largest_loss: float
    student_loss: float


class SupernetTrainer:
    """Trains a supernet epoch by epoch; a checkpoint after each makes any kill harmless.

    Every random draw is a function of seed and epoch, so a resumed training goes on exactly as an
    unbroken one.

    Args:
        family: whose supernet.
        data: training images are used.
        settings: how.
        seed: of everything random.
        device: where; mixed precision on CUDA.
        replicas: this process among those that train together.
    """

    def __init__(
        self,
        family: ModelFamily,
        data: Dataset,
        settings: SupernetSettings,
        seed: int,
        device: str = "cpu",
        replicas: Replicas = ALONE,
    ) -> None:
        torch.manual_seed(seed)
        self.supernet: Supernet = family.supernet().to(device)
        self.epoch = 0
        self.history: list[EpochReport] = []
        self._family = family
        self._settings = settings
        self._seed = seed
        self._device = device
        self._data_digest = data.digest
        self._x = torch.from_numpy(data.x_train).to(device)
        self._y = torch.from_numpy(data.y_train).to(device)
        self._replicas = replicas
        self._errors: NDArray[np.float64] = np.ones(len(self._y))
        self._seen: NDArray[np.float64] = np.full(len(self._y), np.nan)
        space = family.space
        largest = descend(space, lambda rows: -family.costs(rows)["bit_ops"])
        self._largest = space.candidate(largest)
        self._smallest = space.candidate(descend(space, lambda rows: family.costs(rows)["bit_ops"]))
        self._paths = PathSampler(space, largest)
        self._max_params = float(family.costs(largest[None])["params"][0])
        self._parameters = list(self.supernet.parameters())
        self._optimizer = torch.optim.AdamW(
            _groups(self.supernet, settings.weight_decay), settings.learning_rate, fused=True
        )

    def train(self, until: int, checkpoint: Path | None = None, report: Report = print) -> None:
        """Go on to `until` epochs in all, from the checkpoint where there is one.

        Raises:
            ConflictError: the checkpoint is of another training.
        """
        if checkpoint is not None and checkpoint.is_file():
            self.load(checkpoint)
        self._replicas.wait()
        while self.epoch < min(until, self._settings.epochs):
            found = self._train_epoch()
            self.epoch += 1
            self.history.append(found)
            report(
                f"supernet epoch {self.epoch} of {self._settings.epochs}: largest "
                f"{found.largest_loss:.3f}, students {found.student_loss:.3f}"
            )
            if checkpoint is not None and self._replicas.rank == 0:
                self.save(checkpoint)

    def save(self, path: Path) -> None:
        """Write weights, optimizer and samplers to one safetensors file, whole or not at all."""
        groups = {
            "weights": self.supernet.state_dict(),
            "optimizer": optimizer_tensors(self._optimizer),
            "images": {"errors": torch.from_numpy(self._errors)},
            "paths": {k: torch.from_numpy(v) for k, v in self._paths.state().items()},
        }
        history = [asdict(epoch) for epoch in self.history]
        about = {"epoch": self.epoch, "history": history, **self._identity()}
        save_checkpoint(path, groups, about)

    def load(self, path: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            ConflictError: it was written by a training of another space, seed or settings.
        """
        groups, about = load_checkpoint(path, self._identity())
        self.supernet.load_state_dict(groups["weights"])
        restore_optimizer(self._optimizer, groups.get("optimizer", {}))
        self._errors = groups["images"]["errors"].numpy()
        self._paths.restore({k: v.numpy() for k, v in groups["paths"].items()})
        self.history = [EpochReport(**epoch) for epoch in about.get("history", ())]
        self.epoch = int(about["epoch"])

    # ---------------------------------------------------------------- one epoch

    def _train_epoch(self) -> EpochReport:
        settings, share = self._settings, self.epoch / self._settings.epochs
        rng = np.random.default_rng((self._seed, self.epoch))
        torch.manual_seed(int(rng.integers(2**31)))
        if settings.shrinking and self._frees_widths():
            self._sort_channels()
        batches = list(self._batches(rng, share))
        self.supernet.train()
        self._seen = np.full(len(self._y), np.nan)
        losses = []
        for i, index in enumerate(batches):
            step = self.epoch * len(batches) + i
            rate = learning_rate(settings, step / (settings.epochs * len(batches)))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            losses.append(self._step(index, self._candidates(rng, share), share))
        self.supernet.eval()
        self._replicas.average(float_buffers(self.supernet))
        known = ~np.isnan(self._seen)
        self._errors = self._replicas.merged(self._seen, known, self._errors)
        mean = np.mean(losses, axis=0)
        return EpochReport(self.epoch + 1, float(mean[0]), float(mean[1]))

    def _batches(self, rng: np.random.Generator, share: float) -> Iterator[NDArray[np.int64]]:
        n, size = len(self._y), self._settings.batch_size
        if self._settings.images == "uniform":
            order = rng.permutation(n)
        else:
            order = rng.choice(n, n, p=image_probabilities(self._errors, share))
        for start in range(0, n - min(size, n) + 1, size):
            yield order[start : start + size]

    def _frees_widths(self) -> bool:
        """Whether this epoch is the first in which widths vary."""
        n = self._settings.epochs
        return phase_of(self.epoch / n) == len(PHASES) > phase_of((self.epoch - 1) / n)

    def _sort_channels(self) -> None:
        """Order channels by importance; moments of the optimizer belong to the old order."""
        self.supernet.zero_grad(set_to_none=True)
        if self._settings.importance == "taylor":
            index = np.arange(min(len(self._y), TAYLOR_IMAGES))
            self.supernet.train()
            logits = self._logits(self._x[index], self._largest, quantized=False)
            F.cross_entropy(logits, self._y[index]).backward()
        self.supernet.sort_channels(self._settings.importance)
        self._optimizer.state.clear()

    def _candidates(self, rng: np.random.Generator, share: float) -> list[Candidate]:
        """Candidates of one step, teachers before their students."""
        settings, space = self._settings, self._family.space
        tilt = share if settings.paths == "importance" else 0.0
        rows = self._paths.sample(max(1, settings.n_random), rng, tilt)
        if settings.shrinking:
            rows = self._paths.released(rows, share)
        random = [space.candidate(row) for row in rows]
        if settings.n_random == 0:
            return random
        smallest = self._smallest
        if settings.shrinking:
            row = space.row(smallest)[None]
            smallest = space.candidate(self._paths.released(row, share)[0])
        return [self._largest, *random, smallest]

    def _step(
        self, index: NDArray[np.int64], candidates: Sequence[Candidate], share: float
    ) -> tuple[float, float]:
        """One update; returns the largest candidate's loss and the students' mean loss."""
        settings, replicas = self._settings, self._replicas
        index = replicas.part(index)
        x, y = self._x[index], self._y[index]
        quantized = share >= settings.float_share
        self._optimizer.zero_grad(set_to_none=True)
        if settings.kurtosis_weight or settings.skewness_weight:
            moment_loss(
                self.supernet, settings.kurtosis_weight, settings.skewness_weight
            ).backward()
        losses: list[float] = []
        teacher: Tensor | None = None
        for i, candidate in enumerate(candidates):
            before = self._gradients() if self._measures_paths(i) else None
            logits = self._logits(x, candidate, quantized)
            loss = F.cross_entropy(logits, y)
            if teacher is not None and settings.distillation != "none":
                learned = distillation_loss(logits, teacher, settings.distillation)
                loss = settings.label_share * loss + (1 - settings.label_share) * learned
            loss.backward()
            losses.append(loss.item())
            if i == 0:
                self._note_errors(index, logits, y)
            if before is not None:
                change = replicas.mean(self._change(before))
                self._paths.observe(self._family.space.row(candidate), change)
            if teacher is None or settings.teacher == "previous":
                teacher = logits.detach()
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        replicas.average(gradients)
        norm = nn.utils.clip_grad_norm_(self._parameters, settings.max_gradient)
        if torch.isfinite(norm):  # one step that overflowed must not spoil the weights
            self._optimizer.step()
        return losses[0], float(np.mean(losses[1:] or losses))

    def _logits(self, x: Tensor, candidate: Candidate, quantized: bool) -> Tensor:
        row = self._family.space.row(candidate)[None]
        share = float(self._family.costs(row)["params"][0]) / self._max_params
        self.supernet.activate(candidate, quantized)
        self.supernet.set_dropout(self._settings.max_dropout * share)
        mixed = torch.device(self._device).type == "cuda" and not quantized
        with torch.autocast("cuda", torch.bfloat16, enabled=mixed):
            logits: Tensor = self.supernet(x)
        return logits.float()

    def _note_errors(self, index: NDArray[np.int64], logits: Tensor, y: Tensor) -> None:
        """Keep each image's EL2N score: the norm of softmax minus one-hot (Paul et al. 2021)."""
        wrong = logits.detach().softmax(1) - F.one_hot(y, logits.shape[1])
        self._seen[index] = wrong.norm(dim=1).double().cpu().numpy()

    def _measures_paths(self, i: int) -> bool:
        random = i > 0 or self._settings.n_random == 0
        return self._settings.paths == "importance" and random

    def _gradients(self) -> list[Tensor | None]:
        return [None if p.grad is None else p.grad.clone() for p in self._parameters]

    def _change(self, before: Sequence[Tensor | None]) -> float:
        """Norm of the gradient added since `before`."""
        total = 0.0
        for parameter, earlier in zip(self._parameters, before, strict=True):
            if parameter.grad is not None:
                added = parameter.grad if earlier is None else parameter.grad - earlier
                total += float(added.square().sum())
        return math.sqrt(total)

    def _identity(self) -> dict[str, object]:
        return {
            "training": training_digest(self._family, self._data_digest, self._settings, self._seed)
        }


def training_digest(
    family: ModelFamily, data_digest: str, settings: SupernetSettings, seed: int
) -> str:
    """16 hexadecimal digits: equal for trainings that give the same weights on one machine."""
    about = [
        CHECKPOINT_VERSION,
        family.space.digest,
        *family.input_shape,
        family.n_classes,
        data_digest,
        asdict(settings),
        seed,
    ]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def learning_rate(settings: SupernetSettings, progress: float) -> float:
    """Rate at `progress` of all steps, 0 to 1: a tenth of linear warm-up, then a cosine."""
    if progress < 0.1:
        return settings.learning_rate * (0.1 + 9 * progress)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weights decay; norms, biases, kernel transforms and quantizer steps do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        weighty = name.endswith("weight") and parameter.ndim > 1
        (decayed if weighty else free).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0}]
