"""What the distribution itself is charged for, beside the held-out loss."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from workers.differentiable.distribution import Distribution
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings


def charge(
    settings: DifferentiableSettings,
    limits: Limits,
    distribution: Distribution,
    temperature: float,
    rng: np.random.Generator,
) -> Tensor | None:
    """`()` weighted entropy, excess over the limits and price, with gradients; None without any."""
    charges = []
    if settings.entropy_weight:
        charges.append(settings.entropy_weight * distribution.entropy(temperature))
    if settings.resources == "penalty":
        excess = limits.excess(distribution, temperature, rng)
        charges.append(settings.penalty_weight * excess)
    if settings.cost_weight:
        price = limits.price(distribution, temperature, rng)
        charges.append(settings.price_at(distribution.preference) * price)
    total = sum(charges)
    return total if isinstance(total, Tensor) and total.requires_grad else None
