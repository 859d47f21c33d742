from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nas.core import (
    Decision,
    SearchSpace,
)
from searchspaces.relaxed import Mix, RelaxedNetwork
from tests.workers.differentiable.networks import (
    FEW,
    distribution,
    quiet,
)
from workers.datasets import Dataset
from workers.differentiable.gradients import (
    Bilevel,
    amended,
    first_order,
    score_function,
    second_order,
)
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.trainer import DifferentiableTrainer


def quadratic() -> tuple[Bilevel, Tensor]:
    """A toy whose exact hyper-gradient is known, at the training loss's minimum."""
    torch.manual_seed(1)
    n, m = 6, 4
    root = torch.randn(n, n, dtype=torch.double)
    hessian = 0.1 * root @ root.T + torch.eye(n, dtype=torch.double)
    coupling = torch.randn(m, n, dtype=torch.double)
    target = torch.randn(n, dtype=torch.double)
    logits = torch.randn(m, dtype=torch.double, requires_grad=True)
    best = -torch.linalg.solve(hessian, coupling.T @ logits.detach())
    weights = best.clone().requires_grad_()

    def train() -> Tensor:
        return 0.5 * weights @ hessian @ weights + logits @ coupling @ weights

    def held_out() -> Tensor:
        return 0.5 * (weights - target).square().sum() + 0.1 * logits.square().sum()

    exact = 0.2 * logits.detach() - coupling @ torch.linalg.solve(hessian, best - target)
    return Bilevel([weights], [logits], train, held_out), exact


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def test_the_amended_gradient_is_nearer_to_the_exact_one_than_first_order() -> None:
    problem, exact = quadratic()
    (first,), (better,) = first_order(problem), amended(problem, 0.1)
    assert cosine(better, exact) > cosine(first, exact)
    assert cosine(better - first, exact - first) > 0  # at most 90 degrees apart


def test_the_second_order_gradient_is_that_through_one_step() -> None:
    problem, _ = quadratic()
    (weights,), (logits,), rate = problem.weights, problem.logits, 0.05
    before = weights.detach().clone()
    (found,) = second_order(problem, rate)
    assert torch.equal(weights, before)
    (descent,) = torch.autograd.grad(problem.train(), [weights], create_graph=True)
    with torch.no_grad():
        kept = weights.clone()
    moved = kept - rate * descent

    def held_out_at(w: Tensor) -> Tensor:
        with torch.no_grad():
            weights.copy_(w)
        loss = problem.held_out()
        by_weights, by_logits = torch.autograd.grad(loss, [weights, logits])
        with torch.no_grad():
            weights.copy_(kept)
        through = torch.autograd.grad(moved, [logits], by_weights)[0]
        return by_logits + through

    torch.testing.assert_close(found, held_out_at(moved.detach()), rtol=1e-4, atol=1e-6)


def test_the_score_function_gradient_is_that_of_the_expected_loss() -> None:
    found, generator = distribution(), torch.Generator().manual_seed(0)
    table = torch.randn(4, 4, 4, generator=generator)
    settings = replace(FEW, sampling="straight-through", gradient="score-function")
    p = found.probabilities()
    exact = torch.autograd.grad(torch.einsum("ijk,i,j,k", table, *p), list(found.logits))
    total = [torch.zeros(4)] * 3
    for _ in range(2000):
        rows = [found.drawn_row(found.draw(settings, generator)) for _ in range(4)]
        losses = torch.stack([table[tuple(int(o) for o in row)] for row in rows])
        logs = torch.stack([found.log_probability(row) for row in rows])
        step = score_function(losses, logs, list(found.logits))
        total = [a + b / 2000 for a, b in zip(total, step, strict=True)]
    torch.testing.assert_close(torch.cat(total), torch.cat(list(exact)), atol=0.03, rtol=0)


class OneChoice(RelaxedNetwork):
    """Ten logits of their own for every option; the second has the labels' shares."""

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        self.space = SearchSpace([Decision("choice", (0, 1, 2))])
        shares = torch.bincount(torch.from_numpy(labels), minlength=10) / len(labels)
        table = torch.zeros(3, 10)
        table[1] = 2.0 * shares.log().clamp_min(-5)
        self.register_buffer("table", table)
        self.scale = nn.Parameter(torch.ones(()))

    table: Tensor

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        return (self.scale * (mix[0] @ self.table)).expand(len(x), 10)

    @property
    def parameter_free(self) -> list[list[bool]]:
        return [[False, False, False]]


def test_candidates_that_share_a_batch_teach_which_option_is_best(digits: Dataset) -> None:
    kept = np.isin(digits.y_train, [3, 5])
    few = replace(digits, x_train=digits.x_train[kept], y_train=digits.y_train[kept])
    network = OneChoice(few.y_train)
    settings = DifferentiableSettings(
        epochs=30, warm_up=0.0, batch_size=16, architecture_rate=0.1, cost_weight=0.0
    )
    limits = Limits(network.space, lambda rows: {"cost": np.zeros(len(rows))})
    trained = DifferentiableTrainer(network, few, settings, 0, limits)
    trained.train(30, None, quiet)
    assert trained.health[-1].probabilities[0][1] > 0.9


# -------------------------------------------------------------------- limits
