from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import searchspaces
from nas.core import (
    Candidate,
    ConflictError,
    Decision,
    Evaluation,
    EvaluationError,
    Evaluator,
    Fidelity,
    Goals,
    InvalidInputError,
    Report,
    SearchSpace,
)
from nas.core.expectation import drawn_rows
from searchspaces.cells.skeleton import Skeleton
from searchspaces.cells.topology import Dense, cell_space
from searchspaces.relaxed import Mix, RelaxedCells, RelaxedNetwork
from workers.datasets import Dataset, load_dataset
from workers.differentiable.distribution import Distribution, dropped
from workers.differentiable.gradients import (
    Bilevel,
    amended,
    first_order,
    largest_curvature,
    score_function,
    second_order,
)
from workers.differentiable.health import curvature_has_grown, kept_epoch, preferences
from workers.differentiable.resources import Limits
from workers.differentiable.schedules import learning_rate, temperature_at
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import DifferentiableEvaluator, metrics_of, new_trainer
from workers.differentiable.trainer import DifferentiableTrainer

TOPOLOGY = Dense(3, ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"])
SPACE = cell_space(TOPOLOGY)
FEW = DifferentiableSettings(
    epochs=4,
    batch_size=64,
    architecture_rate=0.05,
    warm_up=0.0,
    levels=2,
    gradient="first",
    sampling="softmax",
    cost_weight=0.0,
)
FREE = [[True, True, False, False]] * 3
SMALL = {"n_stages": 1, "widths": [[8, 16]], "depths": [1, 2], "keep": [0.5, 1.0]}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", limit=400)


def quiet(line: str) -> None: ...


def trainer(
    data: Dataset, settings: DifferentiableSettings, limits: Limits | None = None, seed: int = 3
) -> DifferentiableTrainer:
    torch.manual_seed(seed)
    network = RelaxedCells(SPACE, Skeleton.of(TOPOLOGY, (1, 8, 8), 10, width=4))
    return DifferentiableTrainer(
        network, data, settings, seed, limits or Limits(SPACE, convolutions)
    )


def convolutions(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of a cell's convolutions, in those of a 1x1 one."""
    return {"weights": np.array([0.0, 0.0, 1.0, 9.0])[rows].sum(axis=1)}


def state(trained: DifferentiableTrainer) -> Tensor:
    parameters = [*trained.network.parameters(), *trained.distribution.parameters()]
    return torch.cat([p.detach().flatten() for p in parameters])


BOUNDED = Limits.of(SPACE, convolutions, Goals.parse(["weights:min"], ["weights<=5"]))
SWITCHES = {
    "plain": FEW,
    "second": replace(FEW, gradient="second"),
    "amended": replace(FEW, gradient="amended"),
    "one-level": replace(FEW, levels=1),
    "score-function": replace(FEW, gradient="score-function", sampling="straight-through"),
    "gumbel": replace(FEW, sampling="gumbel", schedule="exponential", least_temperature=0.1),
    "straight-through": replace(FEW, sampling="straight-through"),
    "entropy": replace(FEW, schedule="entropy", least_temperature=0.01, noise_share=0.2),
    "drop": replace(FEW, levels=1, drop=0.2),
    "teachers": replace(FEW, teachers=2, teacher_epochs=1),
    "max weight": replace(FEW, max_weight=True, annealing_order=10.0, warm_up=0.25),
    "curvature": replace(FEW, curvature="monitor", entropy_weight=1e-3),
    "price": replace(FEW, cost_weight=0.1, cost_spread=1.0, resources="penalty"),
    "trade-offs": replace(FEW, cost_weight=0.1, levels=1, drop=0.2),
    "parts": replace(FEW, levels=1, gradient="score-function", sampling="straight-through"),
    "the default": DifferentiableSettings(epochs=4, warm_up=0.25, resources="projection"),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_training_resumed_from_a_checkpoint_is_training_unbroken(
    digits: Dataset, tmp_path: Path, switch: str
) -> None:
    settings = SWITCHES[switch]
    whole = trainer(digits, settings, BOUNDED)
    start = state(whole)
    whole.train(4, None, quiet)
    path = tmp_path / "state.safetensors"
    for until in (2, 4):
        broken = trainer(digits, settings, BOUNDED)
        broken.train(until, path, quiet)
    assert torch.equal(state(broken), state(whole))
    assert broken.health == whole.health
    assert len(whole.health) == 4
    assert not torch.equal(state(whole), start)


def test_switches_change_what_is_learned(digits: Dataset) -> None:
    found = []
    for name, settings in SWITCHES.items():
        trained = trainer(digits, replace(settings, epochs=2, warm_up=0.0), BOUNDED)
        trained.train(2, None, quiet)
        found.append((name, state(trained)))
    same = {(a, b) for i, (a, x) in enumerate(found) for b, y in found[:i] if torch.equal(x, y)}
    assert not same


def test_a_checkpoint_of_another_training_is_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    trainer(digits, FEW).train(1, path, quiet)
    with pytest.raises(ConflictError, match="another training"):
        trainer(digits, replace(FEW, max_weight=True)).train(2, path, quiet)
    trainer(digits, replace(FEW, candidates=3)).train(1, path, quiet)  # trained alike


# -------------------------------------------------------------------- gradients


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


def test_power_iteration_finds_the_full_hessians_eigenvalue(digits: Dataset) -> None:
    trained = trainer(digits, FEW)
    trained.train(1, None, quiet)
    logits = list(trained.distribution.logits)
    x, y = torch.from_numpy(digits.x_val[:64]), torch.from_numpy(digits.y_val[:64])

    def loss_of(*values: Tensor) -> Tensor:
        return nn.functional.cross_entropy(trained.network(x, [v.softmax(0) for v in values]), y)

    blocks = torch.autograd.functional.hessian(loss_of, tuple(p.detach() for p in logits))
    hessian = torch.cat([torch.cat(list(row), dim=1) for row in blocks])
    eigenvalues = torch.linalg.eigvalsh(hessian)
    dominant = float(eigenvalues[eigenvalues.abs().argmax()])
    generator = torch.Generator().manual_seed(0)
    found = largest_curvature(lambda: loss_of(*logits), logits, generator, 500, 1e-7)
    assert found == pytest.approx(dominant, rel=0.01)


# -------------------------------------------------------------------- mixtures


def distribution(seed: int = 0) -> Distribution:
    found = Distribution([4, 4, 4], FREE, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for logits in found.logits:
            logits.copy_(torch.randn(4, generator=torch.Generator().manual_seed(seed + 1)))
    return found


def mixed(settings: DifferentiableSettings, temperature: float = 1.0) -> list[Tensor]:
    found = distribution()
    draw = found.draw(settings, torch.Generator().manual_seed(5))
    return found.mix(settings, temperature, draw)


def test_straight_through_mixtures_are_one_hot_and_carry_gradients() -> None:
    for weights in mixed(replace(FEW, sampling="straight-through")):
        assert sorted(weights.tolist()) == [0, 0, 0, 1]
        assert weights.requires_grad


def test_the_likeliest_option_keeps_weight_one_with_max_w() -> None:
    plain, scaled = mixed(FEW), mixed(replace(FEW, max_weight=True))
    for p, w in zip(plain, scaled, strict=True):
        assert w.max().item() == pytest.approx(1.0)
        torch.testing.assert_close(w, 1 - p.max() + p)


def test_straight_through_draws_options_as_often_as_they_are_likely() -> None:
    settings, found = replace(FEW, sampling="straight-through"), distribution()
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(4)
    for _ in range(2000):
        counts += found.mix(settings, 1.0, found.draw(settings, generator))[0].detach()
    torch.testing.assert_close(counts / 2000, found.probabilities()[0].detach(), atol=0.04, rtol=0)


def test_dropping_spares_one_of_every_group_and_keeps_the_dropped_ones_share() -> None:
    generator, free = torch.Generator().manual_seed(0), torch.tensor(FREE[0])
    for _ in range(200):
        stays = dropped(free, 0.9, generator)
        assert stays[free].any()
        assert stays[~free].any()
    found = distribution()
    draw = found.draw(replace(FEW, levels=1, drop=0.9), generator)
    before = [logits.detach().clone() for logits in found.logits]
    with torch.no_grad():
        for logits, kept in zip(found.logits, draw.kept, strict=True):
            logits[kept] += torch.tensor([1.0, -0.5, 0.3, 0.2])[: int(kept.sum())]
    found.keep_dropped_shares(before, draw)
    for logits, old, kept in zip(found.logits, before, draw.kept, strict=True):
        torch.testing.assert_close(logits.softmax(0)[~kept], old.softmax(0)[~kept])


def test_schedules_start_and_end_where_they_should() -> None:
    settings = DifferentiableSettings(
        levels=2,
        gradient="first",
        sampling="gumbel",
        schedule="exponential",
        temperature=10.0,
        least_temperature=0.1,
    )
    found = distribution()
    assert temperature_at(settings, 0.0, found) == pytest.approx(10.0)
    assert temperature_at(settings, 0.5, found) == pytest.approx(1.0)
    assert temperature_at(settings, 1.0, found) == pytest.approx(0.1)
    adaptive = replace(settings, schedule="entropy", temperature=100.0, least_temperature=0.01)
    for progress in (0.25, 0.5, 0.9):
        temperature = temperature_at(adaptive, progress, found)
        assert found.entropy(temperature).item() == pytest.approx(1 - progress, abs=0.01)


@pytest.mark.parametrize("order", [1.0, 10.0])
def test_the_learning_rate_falls_from_the_first_to_the_least(order: float) -> None:
    settings = DifferentiableSettings(annealing_order=order)
    rates = [learning_rate(settings, p) for p in np.linspace(0, 1, 50)]
    assert rates[0] == pytest.approx(settings.learning_rate)
    assert rates[-1] == pytest.approx(settings.least_rate)
    assert all(a > b for a, b in pairwise(rates))
    assert learning_rate(settings, 0.5) < learning_rate(DifferentiableSettings(), 0.5) + 1e-12


# -------------------------------------------------------------------- trade-offs, one level


def test_one_preference_is_a_distribution_and_dropping_keeps_its_shares() -> None:
    found = Distribution([4, 4], FREE[:2], torch.Generator().manual_seed(0), follows=True)
    with torch.no_grad():
        for slopes in found.slopes:
            slopes.copy_(torch.tensor([1.0, 0.0, -1.0, 0.5]))
    middle = found.as_numpy()
    found.preference = 0.8
    for p, q in zip(middle, found.as_numpy(), strict=True):
        moved = p * np.exp(0.8 * np.array([1.0, 0.0, -1.0, 0.5]))
        np.testing.assert_allclose(q, moved / moved.sum(), rtol=1e-5)
    draw = found.draw(replace(FEW, levels=1, drop=0.9), torch.Generator().manual_seed(1))
    before = [logits.detach().clone() for logits in found.logits]
    with torch.no_grad():
        for base, kept in zip(found.bases, draw.kept, strict=True):
            base[kept] += 0.7
    found.keep_dropped_shares(before, draw)
    for logits, old, kept in zip(found.logits, before, draw.kept, strict=True):
        torch.testing.assert_close(logits.softmax(0)[~kept], old.softmax(0)[~kept])


def test_a_training_learns_cheap_and_dear_distributions_at_once(digits: Dataset) -> None:
    settings = DifferentiableSettings(
        epochs=6, warm_up=0.0, cost_weight=0.3, cost_spread=30.0, architecture_rate=0.1
    )
    trained = trainer(digits, settings, Limits.of(SPACE, convolutions, Goals.parse(["weights"])))
    trained.train(6, None, quiet)
    health, distribution = trained.health[-1], trained.distribution
    costs = []
    for u, found in zip(preferences(7), health.tradeoffs(7), strict=True):
        distribution.preference = u
        for p, q in zip(found, distribution.as_numpy(), strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-4)
        expected = trained._limits.expected_costs(distribution, 1.0, np.random.default_rng(0))
        costs.append((u, expected["weights"]))
    costs.sort()
    assert all(a > b for (_, a), (_, b) in pairwise(costs))
    assert costs[0][1] > 2 * costs[-1][1]


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        (DifferentiableSettings(epochs=1, cost_spread=1.0), BOUNDED),
        (DifferentiableSettings(epochs=1, cost_weight=0.0), BOUNDED),
        (DifferentiableSettings(epochs=1), None),
    ],
)
def test_where_costs_have_one_price_or_none_there_is_one_distribution(
    digits: Dataset, settings: DifferentiableSettings, limits: Limits | None
) -> None:
    trained = trainer(digits, settings, limits)
    trained.train(1, None, quiet)
    assert trained.health[-1].tradeoffs(5) == [trained.health[-1].probabilities]


def test_preferences_fill_their_range_however_many_are_asked_for() -> None:
    assert preferences(3) == [0.0, -0.5, 0.5]
    for n in (5, 10, 40):
        found = np.array([-1.0, *sorted(preferences(n)), 1.0])
        assert np.diff(found).max() <= 4 / (n + 1)


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


def test_projection_keeps_the_expected_cost_within_every_bound(digits: Dataset) -> None:
    for seed in range(3):
        limits = Limits.of(SPACE, convolutions, Goals.parse(["accuracy"], ["weights<=4"]))
        trained = trainer(digits, replace(FEW, resources="projection"), limits, seed)
        trained.train(4, None, quiet)
        assert all(h.expected_costs["weights"] <= 4 * 1.01 for h in trained.health)
        assert all(h.derived_costs["weights"] <= 4 for h in trained.health)


def test_a_price_and_a_penalty_make_cheaper_distributions(digits: Dataset) -> None:
    goals = Goals.parse(["accuracy", "weights:min"], ["weights<=2"])
    limits = Limits.of(SPACE, convolutions, goals)
    costs = {}
    for name, settings in {
        "free": FEW,
        "price": replace(FEW, cost_weight=1.0),
        "penalty": replace(FEW, resources="penalty"),
    }.items():
        trained = trainer(digits, settings, limits)
        trained.train(4, None, quiet)
        costs[name] = trained.health[-1].expected_costs["weights"]
    assert costs["price"] < costs["free"]
    assert costs["penalty"] < costs["free"]


def test_limits_know_both_sides_of_a_bound() -> None:
    limits = Limits.of(SPACE, convolutions, Goals.parse(["a"], ["weights>=2", "weights<=12"]))
    rows = np.array([[0, 0, 0], [2, 2, 0], [3, 3, 0], [3, 1, 0]], dtype=np.int16)
    assert limits.met(rows).tolist() == [False, True, False, True]


# -------------------------------------------------------------------- constant networks


def connected(rows: np.ndarray) -> np.ndarray:
    """Whether the cells of three nodes join input and output."""
    return TOPOLOGY.connected(SPACE, np.ascontiguousarray(rows.T), "")


def mostly_none(share: float) -> Distribution:
    found = Distribution([4, 4, 4], FREE, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for logits in found.logits:
            logits.copy_(
                torch.tensor([share, (1 - share) / 3, (1 - share) / 3, (1 - share) / 3]).log()
            )
    return found


@pytest.mark.parametrize("share", [0.25, 0.7, 0.9])
def test_expected_costs_are_those_of_connected_candidates(share: float) -> None:
    found, rows = mostly_none(share), SPACE.rows()
    probability = np.prod([p[rows[:, i]] for i, p in enumerate(found.as_numpy())], axis=0)
    exact = np.average(convolutions(rows)["weights"], weights=probability * connected(rows))
    limits, rng = Limits(SPACE, convolutions, connected), np.random.default_rng(0)
    draws = [limits.expected_costs(found, 1.0, rng)["weights"] for _ in range(300)]
    assert np.mean(draws) == pytest.approx(exact, rel=0.08)


def test_a_price_alone_never_makes_constant_networks_likely() -> None:
    for seed in range(3):
        found = Distribution([4, 4, 4], FREE, torch.Generator().manual_seed(seed))
        limits = Limits.of(SPACE, convolutions_and_stem, Goals.parse(["weights:min"]), connected)
        optimizer, rng = torch.optim.Adam(found.parameters(), 0.05), np.random.default_rng(seed)
        for _ in range(300):
            optimizer.zero_grad()
            limits.price(found, 1.0, rng).backward()
            optimizer.step()
        rows = drawn_rows(found.as_numpy(), 500, rng)
        assert convolutions(rows)["weights"][connected(rows)].mean() < 1.0
        assert connected(rows).mean() > 0.5


def convolutions_and_stem(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"weights": 1.0 + convolutions(rows)["weights"]}


def test_no_step_draws_a_constant_network(digits: Dataset) -> None:
    settings = replace(FEW, epochs=1, sampling="straight-through")
    trained = trainer(digits, settings, Limits(SPACE, convolutions, connected))
    trained.distribution.load_state_dict(mostly_none(0.9).state_dict())
    drawn: list[np.ndarray] = []

    def record(_: nn.Module, arguments: tuple[Tensor, list[Tensor]]) -> None:
        drawn.append(np.array([int(p.detach().argmax()) for p in arguments[1]], dtype=np.int16))

    trained.network.register_forward_pre_hook(record)
    trained.train(1, None, quiet)
    assert len(drawn) > 5
    derived = np.array(trained.health[-1].derived, dtype=np.int16)
    assert connected(np.stack([*drawn[:4], derived])).all()


@pytest.mark.parametrize("unshared", [False, True])
def test_a_short_search_that_prices_costs_hands_over_networks_that_can_learn(
    digits: Dataset, unshared: bool
) -> None:
    family = searchspaces.family("cells", (1, 8, 8), 10, {"unshared": unshared})
    goals = Goals.parse(["accuracy", "weight_bytes"])
    settings = DifferentiableSettings(epochs=2, cost_weight=2.0, architecture_rate=0.2)
    trained = new_trainer(family, digits, goals, settings, 0)
    trained.train(2, None, quiet)
    assert family.connected(np.array([trained.health[-1].derived], dtype=np.int16))[0]
    found = trained.distribution.as_numpy()
    assert family.connected(drawn_rows(found, 500, np.random.default_rng(0))).mean() > 0.1


# -------------------------------------------------------------------- health


def test_growing_curvature_ends_the_search_and_the_epoch_before_counts() -> None:
    flat = [None, 1.0] * 8
    assert not curvature_has_grown(flat)
    grown = [*flat, None, 3.0, None, 3.0]
    assert curvature_has_grown(grown)
    assert kept_epoch(grown) == 12
    assert kept_epoch(flat) == len(flat)


def test_curvature_of_untrained_networks_alone_is_nothing_to_compare_with() -> None:
    rising = [c for i in range(12) for c in (None, 0.1 * 2**i)]  # as long as weights are new
    stops = [n for n in range(len(rising) + 1) if curvature_has_grown(rising[:n])]
    assert stops[0] == 2 * (5 + 4)  # both means, 4 measurements apart, are of 5 each
    assert kept_epoch(rising[: stops[0]]) == 2 * 5
    settling = [c for value in (0.5, 0.8, *[1.0] * 10) for c in (None, value)]
    assert not any(curvature_has_grown(settling[:n]) for n in range(len(settling) + 1))


ADAPT = replace(
    FEW,
    epochs=24,
    curvature="adapt",
    teachers=2,
    teacher_epochs=1,
    decay_growth=5.0,
    max_decay=3e-3,
)
"""May go back twice: the decay is 3e-4, 1.5e-3 and, at its bound, 3e-3."""


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curvature that grows at epoch 24, after going back at epoch 18, and then never again."""

    def curvature(self: DifferentiableTrainer, temperature: float, rng: object) -> float:
        from_epoch = (24, 18, 99)[self.rollbacks]
        return 9.0 if self.epoch + 1 >= from_epoch else 1.0

    monkeypatch.setattr(DifferentiableTrainer, "curvature", curvature)


def adapted(data: Dataset, lines: list[str] | None = None) -> DifferentiableTrainer:
    trained = trainer(data, ADAPT)
    trained.train(24, None, quiet if lines is None else lines.append)
    return trained


@pytest.mark.usefixtures("growing")
def test_growing_curvature_goes_back_and_on_with_more_decay(digits: Dataset) -> None:
    lines: list[str] = []
    trained = adapted(digits, lines)
    told = [line for line in lines if "grown" in line]
    assert ["epoch 16" in told[0], "epoch 10" in told[1]] == [True, True]
    assert "decay 0.0015" in told[0]
    assert (trained.rollbacks, len(told), len(lines)) == (2, 2, 2 + 24 + 2 + 14)
    assert [h.epoch for h in trained.health] == list(range(1, 25))
    assert [h.weight_decay for h in trained.health] == [3e-4] * 10 + [3e-3] * 14
    assert trained.result() == trained.health[-1]


@pytest.mark.usefixtures("growing")
def test_epochs_after_going_back_are_those_of_a_training_that_changed_its_decay_there(
    digits: Dataset,
) -> None:
    plain = trainer(digits, ADAPT)
    plain.train(10, None, quiet)
    plain._decay.rollbacks = 2
    plain.train(24, None, quiet)
    trained = adapted(digits)
    assert torch.equal(state(plain), state(trained))
    assert plain.health == trained.health


@pytest.mark.usefixtures("growing")
def test_a_training_killed_again_and_again_goes_back_as_an_unbroken_one(
    digits: Dataset, tmp_path: Path
) -> None:
    n_lines = 0

    def deadly(line: str) -> None:
        nonlocal n_lines
        n_lines += 1
        if n_lines % 3 == 0:
            raise KeyboardInterrupt

    path = tmp_path / "state.safetensors"
    n_deaths = 0
    for until in [8] * 6 + [16] * 6 + [24] * 30:
        broken = trainer(digits, ADAPT)
        try:
            broken.train(until, path, deadly)
        except KeyboardInterrupt:
            n_deaths += 1
    whole = adapted(digits)
    assert n_deaths > 10
    assert torch.equal(state(broken), state(whole))
    assert broken.health == whole.health
    assert broken.rollbacks == 2


def test_a_task_of_a_training_that_went_back_says_so(
    digits: Dataset, tmp_path: Path, growing: None
) -> None:
    for epochs in (9, 24):
        found = evaluator(digits, tmp_path, ADAPT).train_shared("differentiable", epochs, quiet)
        about = found.provenance["differentiable"]
        assert len(about["history"]) == found.metrics["epochs"] == epochs
    assert found.metrics["rollbacks"] == about["rollbacks"] == 2


@given(decay=st.floats(1e-9, 0.5), growth=st.floats(1.5, 1e3), room=st.floats(1.001, 1e6))
def test_the_decay_rises_to_its_bound_and_never_above(
    decay: float, growth: float, room: float
) -> None:
    settings = DifferentiableSettings(
        levels=2, curvature="adapt", weight_decay=decay, decay_growth=growth, max_decay=decay * room
    )
    decays = [settings.decay_after(i) for i in range(settings.max_rollbacks + 1)]
    assert decays[0] == decay
    assert all(a < b for a, b in pairwise(decays))
    assert decays[-1] == pytest.approx(settings.max_decay)
    assert max(settings.decay_after(i) for i in range(200)) <= settings.max_decay


def test_the_published_decay_may_grow_twice() -> None:
    settings = DifferentiableSettings(levels=2, curvature="adapt", epochs=50)
    assert [settings.decay_after(i) for i in range(3)] == pytest.approx([3e-4, 3e-3, 3e-2])
    assert (settings.max_rollbacks, settings.max_epochs) == (2, 50 + 2 * 8)
    assert replace(settings, curvature="stop").max_epochs == 50


def test_curvature_is_not_looked_at_before_the_logits_learn(digits: Dataset) -> None:
    trained = trainer(digits, replace(FEW, curvature="monitor", warm_up=0.5))
    trained.train(4, None, quiet)
    assert [h.curvature is None for h in trained.health] == [True, True, True, False]


def test_epochs_tell_gap_entropy_and_collapse(digits: Dataset) -> None:
    trained = trainer(digits, replace(FEW, curvature="monitor"))
    trained.train(2, None, quiet)
    health = trained.health[-1]
    assert health.gap == health.relaxed_accuracy - health.derived_accuracy
    assert health.entropy == pytest.approx(trained.distribution.entropy().item(), abs=1e-6)
    assert trained.health[0].curvature is None
    assert health.curvature is not None
    assert math.isfinite(health.curvature)
    assert metrics_of(health)["discretization_gap"] == health.gap
    assert replace(health, parameter_free_share=0.6).has_collapsed
    assert not replace(health, parameter_free_share=0.5).has_collapsed


# -------------------------------------------------------------------- settings, evaluator

MIXED = {"levels": 2, "gradient": "first"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "differentiable"),
        ({"epochs": 0}, "differentiable.epochs"),
        ({"gradient": "third"}, "differentiable.gradient"),
        ({"gradient": "score-function", "sampling": "softmax"}, "scores single candidates"),
        ({"max_weight": 1}, "differentiable.max_weight"),
        ({"max_weight": True, **MIXED}, "leaves one option at weight 1"),
        ({"drop": 0.1, "gradient": "first", "sampling": "gumbel"}, "dropped already"),
        ({"noise_share": 0.1, "gradient": "first", "sampling": "gumbel"}, "noise already"),
        ({"least_temperature": 0.1, **MIXED}, "with schedule constant"),
        ({"least_temperature": 3.0, "schedule": "exponential", **MIXED}, "at most it"),
        ({"curvature": "stop"}, "held-out"),
        ({"curvature": "adapt"}, "held-out"),
        ({"curvature": "adapt", "levels": 2, "weight_decay": 0.0}, "cannot grow"),
        ({"curvature": "adapt", "levels": 2, "weight_decay": 0.03}, "below max_decay"),
        ({"levels": 3}, "differentiable.levels"),
        ({"levels": 1, "gradient": "amended"}, "do not learn from"),
        ({"levels": 1, "gradient": "second"}, "do not learn from"),
        ({"temperature": 2.0, "least_temperature": 2.0}, "whose draws have none"),
        ({"schedule": "entropy", "least_temperature": 0.1}, "whose draws have none"),
        ({"batch_size": 15}, "divide it among 4"),
        ({"cost_spread": 0.5}, "differentiable.cost_spread"),
        ({"decay_growth": 1.0}, "differentiable.decay_growth"),
        ({"max_decay": -1.0}, "differentiable.max_decay"),
        ({"drop": 0.1, **MIXED}, "dropped already"),
        ({"warm_up": 1.0}, "the logits never learn"),
        ({"least_rate": 1.0}, "at most the learning rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        DifferentiableSettings.parse(options)


class Nothing(Evaluator):
    """Scores everything alike."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        return Evaluation({"accuracy": 0.5})


def evaluator(
    data: Dataset, folder: Path, settings: DifferentiableSettings = FEW
) -> DifferentiableEvaluator:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    goals = Goals.parse(["accuracy", "weight_bytes"])
    return DifferentiableEvaluator(Nothing(), family, data, goals, settings, 0, folder)


def test_a_task_trains_to_its_epochs_and_reports_every_one(digits: Dataset, tmp_path: Path) -> None:
    shared = evaluator(digits, tmp_path)
    shared.train_shared("differentiable", 1, quiet)
    found = evaluator(digits, tmp_path).train_shared("differentiable", 2, quiet)
    about = found.provenance["differentiable"]
    assert [h["epoch"] for h in about["history"]] == [1, 2]
    assert list(about["probabilities"]) == list(shared.family.space.names)
    assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in about["probabilities"].values())
    assert found.metrics["epochs"] == 2
    assert found.metrics["expected_weight_bytes"] > 0
    lines: list[str] = []
    again = shared.train_shared("differentiable", 2, lines.append)
    assert again == found
    assert lines == []


def test_another_method_is_the_inner_evaluators_and_refused_where_it_has_none(
    digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="not supernet"):
        evaluator(digits, tmp_path).train_shared("supernet", 1, quiet)


def test_the_joint_space_learns_to_classify() -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    goals = Goals.parse(["accuracy"])
    settings = replace(FEW, epochs=6, learning_rate=0.1)
    trained = new_trainer(family, load_dataset("digits"), goals, settings, 0)
    trained.train(6, None, quiet)
    assert trained.health[-1].relaxed_accuracy > 0.5
    assert trained.health[-1].entropy < trained.health[0].entropy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_distribution_is_learned_on_a_gpu_and_its_file_serves_the_cpu(tmp_path: Path) -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    settings = DifferentiableSettings(epochs=2, teachers=1, teacher_epochs=1, curvature="monitor")
    arguments = (load_dataset("digits"), settings, 0, Limits(family.space, family.costs))
    path = tmp_path / "state.safetensors"
    on_gpu = DifferentiableTrainer(family.relaxed(), *arguments, device="cuda")
    on_gpu.train(1, path, quiet)
    on_gpu.train(2, path, quiet)
    on_cpu = DifferentiableTrainer(family.relaxed(), *arguments)
    on_cpu.load(path)
    assert on_cpu.health == on_gpu.health
    assert len(on_cpu.health) == 2
