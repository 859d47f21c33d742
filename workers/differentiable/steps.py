"""Steps of a relaxed network's weights and of the distribution over its candidates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from searchspaces.relaxed import Mix, RelaxedNetwork
from workers.datasets import Dataset
from workers.differentiable.charges import charge
from workers.differentiable.distribution import Distribution, Draw
from workers.differentiable.gradients import Bilevel, by_logits, filled, score_function
from workers.differentiable.resources import Limits
from workers.differentiable.settings import N_SCORED, DifferentiableSettings
from workers.differentiable.teachers import VotingTeachers

MOMENTUM = 0.9
BETAS = (0.5, 0.999)
MAX_DRAWS = 1000
"""Until a candidate is connected; the last is taken as it is."""

Index = NDArray[np.int64]


class Steps:
    """One batch at a time: the weights go down the loss, the logits down its expectation.

    Args:
        network: whose weights.
        distribution: whose logits.
        data: whose training images.
        settings: how.
        rate_of_logits: their learning rate.
        limits: on the costs of candidates.
        teachers: that add to the loss once there are any.
        device: of the images.

    Attributes:
        of_weights, of_logits: their optimizers.
    """

    def __init__(
        self,
        network: RelaxedNetwork,
        distribution: Distribution,
        data: Dataset,
        settings: DifferentiableSettings,
        rate_of_logits: float,
        limits: Limits,
        teachers: VotingTeachers,
        device: str,
    ) -> None:
        self.network, self.distribution = network, distribution
        self._settings, self._limits, self._teachers = settings, limits, teachers
        self._x = torch.from_numpy(data.x_train).to(device)
        self._y = torch.from_numpy(data.y_train).to(device)
        self._weights = list(network.parameters())
        self._logits = list(distribution.parameters())
        self.of_weights = torch.optim.SGD(
            self._weights, settings.learning_rate, MOMENTUM, weight_decay=settings.weight_decay
        )
        self.of_logits = torch.optim.Adam(
            self._logits, rate_of_logits, BETAS, weight_decay=settings.architecture_decay
        )

    def images(self, index: Index) -> tuple[Tensor, Tensor]:
        """`(B, C, H, W)` training images and their `(B,)` labels."""
        return self._x[index], self._y[index]

    def set_rate(self, rate: float, decay: float) -> None:
        """Learning rate and weight decay of the weights from now on."""
        for group in self.of_weights.param_groups:
            group["lr"], group["weight_decay"] = rate, decay

    def take(
        self,
        index: Index,
        held_out: Index,
        temperature: float,
        learns: bool,
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> float:
        """The next step; returns the training loss before it.

        Args:
            index: images of the weights.
            held_out: of the logits; the same with one level.
            temperature: of the distribution.
            learns: whether the logits move, too.
            generator: of mixtures.
            rng: of expected costs.
        """
        settings = self._settings
        self.distribution.prefer(generator)
        if settings.scores_parts:
            return self._step_candidates(index, temperature, learns, generator, rng)
        if learns and settings.is_one_level:
            return self._step_both(index, temperature, generator, rng)
        if learns:
            self._step_logits(index, held_out, temperature, generator, rng)
        return self._step_weights(index, temperature, generator)

    def _step_weights(self, index: Index, temperature: float, generator: torch.Generator) -> float:
        draw = self._draw(generator)
        mix = [m.detach() for m in self.distribution.mix(self._settings, temperature, draw)]
        self.of_weights.zero_grad(set_to_none=True)
        loss = self._loss(index, mix)
        loss.backward()
        self._descend()
        return loss.item()

    def _step_both(
        self,
        index: Index,
        temperature: float,
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> float:
        """One mixture's loss moves weights and logits at once (DropNAS, section 3.1)."""
        draw = self._draw(generator)
        self.of_weights.zero_grad(set_to_none=True)
        loss = self._loss(index, self.distribution.mix(self._settings, temperature, draw))
        found = torch.autograd.grad(loss, [*self._logits, *self._weights], allow_unused=True)
        for weight, gradient in zip(self._weights, found[len(self._logits) :], strict=True):
            weight.grad = gradient
        self._descend()
        self._move_logits(filled(found[: len(self._logits)], self._logits), temperature, draw, rng)
        return loss.item()

    def _step_candidates(
        self,
        index: Index,
        temperature: float,
        learns: bool,
        generator: torch.Generator,
        rng: np.random.Generator,
    ) -> float:
        """Drawn candidates share a batch; their losses move weights and, as scores, logits.

        Reference: Liao et al. 2021 (ViT-ResNAS), for several architectures in one batch.
        """
        self.of_weights.zero_grad(set_to_none=True)
        losses, logs = [], []
        for part in np.array_split(index, max(1, min(N_SCORED, len(index) // 4))):
            draw = self._draw(generator)
            drawn = self.distribution.drawn_row(draw)
            loss = self._loss(part, self.distribution.one_hot(drawn))
            (loss * (len(part) / len(index))).backward()
            losses.append(loss.detach())
            row = self.network.space.canonical(drawn[None])[0]
            logs.append(self.distribution.log_probability(row))
        self._descend()
        if learns:
            found = score_function(torch.stack(losses), torch.stack(logs), self._logits)
            self._move_logits(found, temperature, draw, rng)
        return float(torch.stack(losses).mean())

    def _descend(self) -> None:
        """A step of the weights down their gradients, where these are finite."""
        norm = nn.utils.clip_grad_norm_(self._weights, self._settings.max_gradient)
        if torch.isfinite(norm):
            self.of_weights.step()

    def _step_logits(
        self,
        index: Index,
        held_out: Index,
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
        self._move_logits(gradients, temperature, draw, rng)

    def _move_logits(
        self,
        gradients: Sequence[Tensor],
        temperature: float,
        draw: Draw,
        rng: np.random.Generator,
    ) -> None:
        """A step of the logits down the loss's gradients and those of what they are charged."""
        settings = self._settings
        before = [logits.detach().clone() for logits in self.distribution.logits]
        self.of_logits.zero_grad(set_to_none=True)
        for logits, gradient in zip(self._logits, gradients, strict=True):
            logits.grad = gradient
        charged = charge(settings, self._limits, self.distribution, temperature, rng)
        if charged is not None:
            charged.backward()
        if all(
            torch.isfinite(logits.grad).all() for logits in self._logits if logits.grad is not None
        ):
            self.of_logits.step()
        if settings.drop:
            self.distribution.keep_dropped_shares(before, draw)
        if settings.resources == "projection":
            self._limits.project(self.distribution, temperature, rng)

    def _differentiated(
        self,
        index: Index,
        held_out: Index,
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
        return by_logits(problem, settings, float(self.of_weights.param_groups[0]["lr"]))

    def _scored(self, held_out: Index, generator: torch.Generator) -> list[Tensor]:
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

    def _loss(self, index: Index, mix: Mix) -> Tensor:
        """Cross-entropy, and the divergence from the teachers' vote where there are any."""
        settings = self._settings
        x, y = self.images(index)
        logits = self.network(x, mix)
        loss = F.cross_entropy(logits, y)
        if self._teachers.states:
            loss = loss + settings.teacher_weight * self._teachers.loss(self.network, x, logits)
        return loss
