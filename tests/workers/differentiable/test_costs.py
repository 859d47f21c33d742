from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import searchspaces
from nas.core import (
    Goals,
)
from nas.core.expectation import drawn_rows
from tests.workers.differentiable.networks import (
    FEW,
    FREE,
    SPACE,
    TOPOLOGY,
    convolutions,
    quiet,
    trainer,
)
from workers.datasets import Dataset
from workers.differentiable.distribution import Distribution
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import new_trainer


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
