from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from nas.core import (
    Goals,
)
from tests.workers.differentiable.networks import (
    BOUNDED,
    FEW,
    FREE,
    SPACE,
    convolutions,
    distribution,
    quiet,
    trainer,
)
from workers.datasets import Dataset
from workers.differentiable.distribution import Distribution, dropped
from workers.differentiable.health import preferences
from workers.differentiable.resources import Limits
from workers.differentiable.schedules import learning_rate, temperature_at
from workers.differentiable.settings import DifferentiableSettings


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
