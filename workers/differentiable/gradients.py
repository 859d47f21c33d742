"""Gradients of a held-out loss by the architecture's logits, and the loss's curvature there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.differentiable.settings import DifferentiableSettings

Loss = Callable[[], Tensor]
Tensors = Sequence[Tensor]
STEP = 0.01
"""Norm of a finite difference in the space of weights (DARTS, section 2.3)."""


@dataclass(frozen=True)
class Bilevel:
    """Two losses of the same parameters.

    Attributes:
        weights: which the training loss should be least in.
        logits: which the held-out loss should be least in, given those weights.
        train: loss on training images.
        held_out: loss on other images.
    """

    weights: Tensors
    logits: Tensors
    train: Loss
    held_out: Loss


def by_logits(problem: Bilevel, settings: DifferentiableSettings, rate: float) -> list[Tensor]:
    """The gradient that `settings` ask for; the weights learn at `rate`."""
    match settings.gradient:
        case "second":
            return second_order(problem, rate)
        case "amended":
            return amended(problem, settings.amended_rate)
        case "first":
            return first_order(problem)
        case "score-function":
            raise AssertionError("it needs drawn candidates, not a mixture: see `score_function`")


def first_order(problem: Bilevel) -> list[Tensor]:
    """The held-out loss's gradient by the logits, as if weights would not follow."""
    return _gradients(problem.held_out(), problem.logits)


def second_order(problem: Bilevel, rate: float) -> list[Tensor]:
    """The same after one step of the weights by `rate`, and through that step.

    Reference: Liu et al. 2019 (DARTS), equations 7 and 8.
    """
    descent = _gradients(problem.train(), problem.weights)
    with _moved(problem.weights, descent, -rate):
        loss = problem.held_out()
        found = torch.autograd.grad(loss, [*problem.logits, *problem.weights], allow_unused=True)
    direct = filled(found[: len(problem.logits)], problem.logits)
    by_weights = filled(found[len(problem.logits) :], problem.weights)
    implicit = _mixed_product(problem, by_weights)
    return [g - rate * h for g, h in zip(direct, implicit, strict=True)]


def amended(problem: Bilevel, rate: float) -> list[Tensor]:
    """The first-order gradient and a term in place of the exact one's inverse Hessian.

    The exact gradient is `g - M H^-1 v` with `v` the held-out loss's gradient by the weights, `H`
    and `M` the training loss's second derivatives by the weights, and by logits and weights. Here
    it is `g - rate M H v`, at most 90 degrees from it at a minimum of the training loss.

    Reference: Bi et al. 2019 (Stabilizing DARTS with amended gradient estimation), equation 6.
    """
    loss = problem.held_out()
    found = torch.autograd.grad(loss, [*problem.logits, *problem.weights], allow_unused=True)
    direct = filled(found[: len(problem.logits)], problem.logits)
    by_weights = filled(found[len(problem.logits) :], problem.weights)
    product = _difference(problem.train, problem.weights, by_weights, problem.weights)
    implicit = _mixed_product(problem, product)
    return [g - rate * h for g, h in zip(direct, implicit, strict=True)]


def score_function(losses: Tensor, log_probabilities: Tensor, logits: Tensors) -> list[Tensor]:
    """The gradient of the expected loss of a candidate, from `(k,)` losses of drawn ones.

    Without bias for k > 1, and 0 for 1: each loss, less the mean of the others', times the slope of
    the `(k,)` logarithm of the candidate's probability. What all of them have in common, as the
    probability of being connected, drops out.

    Reference: Williams 1992 (REINFORCE); Cai et al. 2019 (ProxylessNAS), equation 9, for
    architectures; Kool et al. 2019 (Buy 4 REINFORCE samples), for the baseline.
    """
    n = len(losses)
    advantages = (losses - losses.mean()) * n / max(n - 1, 1)
    return _gradients((advantages.detach() * log_probabilities).mean(), logits)


def largest_curvature(
    loss: Loss,
    parameters: Tensors,
    generator: torch.Generator,
    max_steps: int = 50,
    tolerance: float = 1e-2,
) -> float:
    """Eigenvalue of largest magnitude of the loss's Hessian, by power iteration.

    Stops when the Rayleigh quotient changes by less than `tolerance` of itself.

    Reference: Zela et al. 2020 (Understanding and robustifying DARTS), section 4.
    """
    gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    vector = torch.randn(len(flat), generator=generator).to(flat)
    vector = vector / vector.norm()
    value = 0.0
    for _ in range(max_steps):
        product = torch.autograd.grad(flat, parameters, vector, retain_graph=True)
        applied = torch.cat([p.flatten() for p in product])
        before, value = value, float(vector @ applied)
        norm = applied.norm()
        if norm == 0 or abs(value - before) < tolerance * abs(value):
            break
        vector = applied / norm
    return value


def _gradients(loss: Tensor, parameters: Tensors) -> list[Tensor]:
    return filled(torch.autograd.grad(loss, parameters, allow_unused=True), parameters)


def filled(gradients: Sequence[Tensor | None], parameters: Tensors) -> list[Tensor]:
    """Zeros where a parameter has no gradient."""
    pairs = zip(gradients, parameters, strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def _mixed_product(problem: Bilevel, vector: Tensors) -> list[Tensor]:
    """The training loss's second derivatives by logits and weights, times `vector`."""
    return _difference(problem.train, problem.weights, vector, problem.logits)


def _difference(
    loss: Loss, moved: Tensors, direction: Tensors, parameters: Tensors
) -> list[Tensor]:
    """Change of the loss's gradient by `parameters` along `direction` of `moved`, per unit."""
    norm = float(torch.stack([d.norm() for d in direction]).norm())
    if norm == 0:
        return [torch.zeros_like(p) for p in parameters]
    step = STEP / norm
    with _moved(moved, direction, step):
        above = _gradients(loss(), parameters)
    with _moved(moved, direction, -step):
        below = _gradients(loss(), parameters)
    return [(a - b) / (2 * step) for a, b in zip(above, below, strict=True)]


@contextmanager
def _moved(parameters: Tensors, direction: Tensors, step: float) -> Iterator[None]:
    """Parameters a step further, and afterwards exactly what they were."""
    before = [p.detach().clone() for p in parameters]
    try:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=step)
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.copy_(old)
