"""Strategies on a made-up accuracy over the real joint space: learning must pay."""

from __future__ import annotations

import numpy as np

import searchspaces
from nas.core import Genotypes, Goals, SearchStrategy, Trial, hypervolume
from nas.core.goals import columns_of
from nas.strategies import PredictorGuided, RandomSearch, RegularizedEvolution
from predictors.encoders import encode, with_costs
from predictors.gbdt import GradientBoostedTrees

FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 10)
SPACE = FAMILY.space
GOALS = Goals.parse(["accuracy", "weight_bytes"])
N_TRIALS = 50


def score(row: Genotypes) -> dict[str, float]:
    """Accuracy grows with MACs and falls with coarse bits, with an interaction."""
    costs = FAMILY.costs(row[None])
    x = encode(SPACE, row[None])[0]
    wiggle = 0.01 * np.sin(3 * x[:20].sum()) + 0.002 * x[:20] @ np.arange(20)
    accuracy = 1 - np.exp(-np.log(costs["macs"][0]) / 8) + wiggle
    return {"accuracy": float(accuracy), "weight_bytes": float(costs["weight_bytes"][0])}


def volume_after(strategy: SearchStrategy) -> float:
    found = []
    for number in range(N_TRIALS):
        task = strategy.ask(1)[0]
        trial = Trial(number, task)
        strategy.tell([trial])
        assert trial.candidate is not None
        found.append(score(SPACE.row(trial.candidate)))
        strategy.tell([trial.completed(found[-1])])
    losses = GOALS.losses(columns_of(found, GOALS.metrics))
    losses[:, 1] = np.log(losses[:, 1])
    return hypervolume(losses, np.array([0.0, 12.5]))


def test_predictor_guided_beats_random_and_evolution_in_every_seed() -> None:
    for seed in range(3):
        guided = PredictorGuided(
            SPACE,
            GOALS,
            seed,
            GradientBoostedTrees(n_members=3, n_trees=50, seed=seed),
            with_costs(SPACE, FAMILY.costs),
            FAMILY.costs,
            pool=1000,
        )
        evolution = RegularizedEvolution(SPACE, GOALS, seed, population=15, sample=5)
        baseline = max(volume_after(RandomSearch(SPACE, seed)), volume_after(evolution))
        assert volume_after(guided) > 1.1 * baseline
