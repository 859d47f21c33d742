"""Strategies on a made-up accuracy over the real joint space: learning must pay."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import searchspaces
from nas.core import (
    Decision,
    Genotypes,
    Goals,
    SearchSpace,
    SearchStrategy,
    Trial,
    hypervolume,
)
from nas.core.goals import columns_of
from nas.strategies import (
    STRATEGIES,
    PredictorGuided,
    RandomSearch,
    RegularizedEvolution,
    SearchContext,
    make_strategy,
)
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


TABLE = SearchSpace(tuple(Decision(f"w{i}", (1, 2, 4, 8)) for i in range(16)))
TARGETS = {
    "one": Goals.parse(["accuracy"]),
    "two": Goals.parse(["accuracy", "bytes:min"]),
    "bounded": Goals.parse(["accuracy"], ["bytes<=40"]),
}


def looked_up(row: Genotypes) -> dict[str, float]:
    """Accuracy that grows with widths, less for wide ones and where neighbours differ."""
    width, place = row / 3, np.arange(16)
    gain = np.average(np.sqrt(width), weights=1 + place % 3)
    uneven = np.abs(np.diff(width)).mean() / 3
    return {
        "accuracy": float(gain - uneven + 0.01 * np.sin(5 * row @ place)),
        "bytes": float(row @ (1 + place % 4)),
    }


Contexts = Callable[..., SearchContext]


def result(context_of: Contexts, name: str, target: str, seed: int, n_trials: int) -> float:
    """What a search with default settings and two workers found: best accuracy, or hypervolume."""
    goals = TARGETS[target]
    strategy = make_strategy(name, context_of(TABLE, goals, seed=seed, n_trials=n_trials), {})
    found: list[dict[str, float]] = []
    running: list[Trial] = []
    for number in range(n_trials):
        running.append(Trial(number, strategy.ask(1)[0]))
        strategy.tell(running[-1:])
        if len(running) == 2:
            done = running.pop(0)
            assert done.candidate is not None
            found.append(looked_up(TABLE.row(done.candidate)))
            strategy.tell([done.completed(found[-1])])
    columns = columns_of(found, ["accuracy", "bytes"])
    losses = goals.losses(columns)[goals.violations(columns, len(found)) == 0.0]
    if target == "two":
        return hypervolume(losses, np.array([0.0, 120.0]))
    return -float(losses.min(initial=0.0))


@cache
def median(context_of: Contexts, name: str, target: str, n_trials: int, n_seeds: int = 5) -> float:
    found = [result(context_of, name, target, seed, n_trials) for seed in range(n_seeds)]
    return float(np.median(found))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "name",
    [
        "local-search",
        "regularized-evolution",
        "differential-evolution",
        "nsga2",
        "nsga3",
        "cross-entropy",
    ],
)
def test_every_strategy_beats_random_search(context_of: Contexts, name: str, target: str) -> None:
    n_trials = 150 if target == "two" else 60
    assert median(context_of, name, target, n_trials) > median(
        context_of, "random", target, n_trials
    )


@pytest.mark.parametrize("target", ["two", "bounded"])
@pytest.mark.parametrize("name", ["optuna-tpe", "optuna-nsga2", "gradient-guided"])
def test_some_beat_random_search_in_fewer_trials(
    context_of: Contexts, name: str, target: str
) -> None:
    assert median(context_of, name, target, 50, n_seeds=3) > median(
        context_of, "random", target, 60
    )


@pytest.mark.usefixtures("hasty_gp")
def test_gaussian_processes_beat_random_search_in_few_trials(context_of: Contexts) -> None:
    assert median(context_of, "optuna-gp", "one", 20, n_seeds=3) > median(
        context_of, "random", "one", 60
    )


def test_no_strategy_is_left_out() -> None:
    tested = {"local-search", "regularized-evolution", "differential-evolution", "nsga2", "nsga3"}
    tested |= {"cross-entropy", "optuna-tpe", "optuna-nsga2", "optuna-gp", "predictor-guided"}
    tested |= {"gradient-guided"}
    assert tested | {"random"} == set(STRATEGIES)
