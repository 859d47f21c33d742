"""Learning rate and temperature by progress of the training."""

from __future__ import annotations

import math

from workers.differentiable.distribution import Distribution
from workers.differentiable.settings import DifferentiableSettings


def learning_rate(settings: DifferentiableSettings, progress: float) -> float:
    """Rate of the weights at `progress` of the training, 0 to 1.

    A cosine, or for orders above 1 a power of it normalised to the same ends.

    Reference: Hundt et al. 2019 (sharpDARTS), cosine power annealing.
    """
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    order = settings.annealing_order
    share = cosine if order == 1 else (order**cosine - 1) / (order - 1)
    return settings.least_rate + (settings.learning_rate - settings.least_rate) * share


def temperature_at(
    settings: DifferentiableSettings, progress: float, distribution: Distribution
) -> float:
    """Temperature at `progress` of the training, 0 to 1.

    `exponential` is tau_0 (tau_T / tau_0)^progress; `entropy` is the temperature within the same
    bounds at which the mean normalised entropy is `1 - progress`, by bisection.
    """
    high, low = settings.temperature, settings.least_temperature
    match settings.schedule:
        case "constant":
            return high
        case "exponential":
            return float(high * (low / high) ** progress)
        case "entropy":
            below, above = math.log(low), math.log(high)
            for _ in range(30):
                middle = (below + above) / 2
                if float(distribution.entropy(math.exp(middle)).detach()) > 1 - progress:
                    above = middle
                else:
                    below = middle
            return math.exp((below + above) / 2)
