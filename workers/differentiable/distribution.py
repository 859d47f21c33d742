"""The distribution over candidates: logits by decision, and the mixtures drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import Genotypes
from workers.differentiable.settings import DifferentiableSettings

FIRST_SPREAD = 1e-3
"""Standard deviation of the logits at first (DARTS)."""


@dataclass(frozen=True)
class Draw:
    """What chance decided of one step: by decision, noise on the logits and which options stay."""

    noise: Sequence[Tensor]
    kept: Sequence[Tensor]


class Distribution(nn.Module):
    """Independent categorical distributions, one per decision, that may follow a preference.

    A preference from -1, for what is accurate, to 1, for what is cheap, moves every logit along a
    line, so one training learns a family of distributions, one for each trade-off.

    Args:
        n_options: by decision.
        parameter_free: by decision and option; the two groups of DropNAS.
        generator: of the first logits.
        follows: whether it follows the preference.

    Attributes:
        preference: that logits, probabilities and draws are for; no part of the state.

    Reference: Sukthanker et al. 2024 (Multi-objective differentiable NAS), whose hypernetwork of
    preferences is here the simplest one: linear.
    """

    def __init__(
        self,
        n_options: Sequence[int],
        parameter_free: Sequence[Sequence[bool]],
        generator: torch.Generator,
        follows: bool = False,
    ) -> None:
        super().__init__()
        self.preference = 0.0
        self.bases = nn.ParameterList(
            FIRST_SPREAD * torch.randn(n, generator=generator) for n in n_options
        )
        self.slopes = nn.ParameterList(torch.zeros(n) for n in n_options if follows)
        self._free = [torch.tensor(flags) for flags in parameter_free]

    @property
    def logits(self) -> list[Tensor]:
        """By decision, `(options,)` logits at the preference; they carry gradients."""
        if not self.slopes:
            return list(self.bases)
        return [a + self.preference * b for a, b in zip(self.bases, self.slopes, strict=True)]

    def prefer(self, generator: torch.Generator) -> None:
        """Draw the preference of a step, where preferences are followed."""
        if self.slopes:
            self.preference = 2 * float(torch.rand((), generator=generator)) - 1

    def probabilities(self, temperature: float = 1.0) -> list[Tensor]:
        """By decision, `(options,)` probabilities; they carry gradients."""
        return [(logits / temperature).softmax(0) for logits in self.logits]

    @torch.no_grad()
    def as_numpy(self, temperature: float = 1.0) -> list[NDArray[np.float64]]:
        """The same as numbers."""
        return [p.double().cpu().numpy() for p in self.probabilities(temperature)]

    def entropy(self, temperature: float = 1.0) -> Tensor:
        """`()` mean over decisions of entropy over its largest value, 0 to 1."""
        parts = [
            -(p * p.clamp_min(1e-12).log()).sum() / math.log(len(p))
            for p in self.probabilities(temperature)
            if len(p) > 1
        ]
        return torch.stack(parts).mean()

    @torch.no_grad()
    def draw(self, settings: DifferentiableSettings, generator: torch.Generator) -> Draw:
        """What chance decides of the next step."""
        noise, kept = [], []
        for logits, free in zip(self.logits, self._free, strict=True):
            n = len(logits)
            stays = torch.ones(n, dtype=torch.bool)
            added = torch.zeros(n)
            if settings.sampling != "softmax":
                uniform = torch.rand(n, generator=generator).clamp(1e-12, 1 - 1e-7)
                added = -(-uniform.log()).log()
            elif settings.noise_share:
                hit = torch.rand(n, generator=generator) < settings.noise_share
                added = torch.randn(n, generator=generator) * hit
            if settings.drop:
                stays = dropped(free, settings.drop, generator)
            noise.append(added.to(logits.device))
            kept.append(stays.to(logits.device))
        return Draw(noise, kept)

    def mix(self, settings: DifferentiableSettings, temperature: float, draw: Draw) -> list[Tensor]:
        """By decision, `(options,)` weights of the mixture that `draw` makes of the logits.

        Reference: DARTS, equation 2; Jang et al. 2017 (Gumbel-softmax); Dong and Yang 2019 (GDAS),
        equation 4; Hundt et al. 2019 (sharpDARTS), Max-W.
        """
        mixed = []
        for logits, noise, kept in zip(self.logits, draw.noise, draw.kept, strict=True):
            scaled = ((logits + noise) / temperature).masked_fill(~kept, -math.inf)
            weights = scaled.softmax(0)
            if settings.sampling == "straight-through":
                hard = torch.zeros_like(weights)
                hard[weights.argmax()] = 1.0
                weights = hard + (weights - weights.detach())  # exactly hard, with the soft slope
            elif settings.max_weight:
                weights = torch.where(kept, 1 - weights.max() + weights, 0.0)
            mixed.append(weights)
        return mixed

    @torch.no_grad()
    def drawn_row(self, draw: Draw) -> Genotypes:
        """`(d,)` the options that `draw` makes likeliest, the ones of straight-through mixtures."""
        pairs = zip(self.logits, draw.noise, strict=True)
        return np.array([int((logits + noise).argmax()) for logits, noise in pairs], dtype=np.int16)

    def log_probability(self, row: Genotypes) -> Tensor:
        """`()` logarithm of the probability that the active decisions of a `(d,)` row are drawn."""
        pairs = zip(self.logits, row, strict=True)
        terms = [logits.log_softmax(0)[int(option)] for logits, option in pairs if option >= 0]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def one_hot(self, row: NDArray[np.int16]) -> list[Tensor]:
        """The mixture that is one candidate, `(d,)` option indices; inactive ones take any."""
        mixed = []
        for logits, option in zip(self.logits, row, strict=True):
            weights = torch.zeros_like(logits)
            weights[max(int(option), 0)] = 1.0
            mixed.append(weights)
        return mixed

    @torch.no_grad()
    def keep_dropped_shares(self, before: Sequence[Tensor], draw: Draw) -> None:
        """Give dropped options the probabilities they had before the others' logits changed.

        Reference: Hong et al. 2020 (DropNAS), section 3.3.
        """
        groups = zip(self.logits, self.bases, before, draw.kept, strict=True)
        for logits, base, old, kept in groups:
            if not kept.all():
                change = logits[kept].logsumexp(0) - old[kept].logsumexp(0)
                base[~kept] += old[~kept] + change - logits[~kept]


def dropped(free: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """`(options,)` which options stay: each group, with and without weights, loses some.

    A whole group would vanish with probability `rate`; then it is drawn again (DropNAS, 3.2).
    """
    stays = torch.ones(len(free), dtype=torch.bool)
    for group in (free.nonzero()[:, 0], (~free).nonzero()[:, 0]):
        if len(group) < 2:
            continue
        probability = rate ** (1 / len(group))
        while True:
            kept = torch.rand(len(group), generator=generator) >= probability
            if kept.any():
                break
        stays[group] = kept
    return stays
