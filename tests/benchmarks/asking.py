"""Processor seconds to refit and ask over a large pool, and to replay a long history.

    .venv/bin/python tests/benchmarks/asking.py

The space is the mobilenet-like one of digits, the objectives are an accuracy made up from the row
and exact weight bytes. One ask after 1,000 trials includes the refit and 100,000 fresh candidates.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np
import torch

import searchspaces
from nas.core import Evaluate, Fidelity, Goals, Trial
from nas.strategies import PredictorGuided
from predictors.encoders import with_costs
from predictors.registry import predictor

GOALS = Goals.parse(["accuracy", "weight_bytes:min"])
NAMES = ("gbdt", "gbdt-ranking", "gaussian-process", "gaussian-process-warped")


def main() -> None:
    """Print medians over repeats."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pool", type=int, default=100_000)
    repeats, pool = vars(parser.parse_args()).values()
    torch.set_num_threads(1)
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, {})
    for n in (1_000, 10_000):
        events = history(family, n)
        replays: list[float] = []
        asks: dict[str, list[float]] = {name: [] for name in NAMES}
        for name in NAMES:
            for seed in range(repeats):
                strategy = guided(family, name, seed, pool)
                started = time.process_time()
                strategy.tell(events)
                replays.append(time.process_time() - started)
                if n > 1_000:
                    continue
                started = time.process_time()
                strategy.ask(1)
                asks[name].append(time.process_time() - started)
        print(f"replay of {n:,} trials: {median(replays):.2f} s")
        for name, seconds in asks.items():
            if seconds:
                print(f"refit on {n:,} trials, ask over {pool:,}, {name}: {median(seconds):.2f} s")


def guided(family: searchspaces.ModelFamily, name: str, seed: int, pool: int) -> PredictorGuided:
    """The strategy with one generation: all of the pool is fresh."""
    return PredictorGuided(
        family.space,
        GOALS,
        seed,
        predictor(name, seed),
        with_costs(family.space, family.costs),
        family.costs,
        pool=pool,
        generations=1,
    )


def history(family: searchspaces.ModelFamily, n: int) -> list[Trial]:
    """Started and completed trials of random candidates."""
    rng, space = np.random.default_rng(0), family.space
    rows = space.sample(n, rng)
    costs = family.costs(rows)["weight_bytes"]
    effect = rng.normal(size=len(space))
    accuracy = 1 / (1 + np.exp(-(rows * effect).sum(axis=1) / len(space)))
    events = []
    for number, row in enumerate(rows):
        trial = Trial(number, Evaluate(space.candidate(row), Fidelity.TRAINED))
        metrics = {"accuracy": float(accuracy[number]), "weight_bytes": float(costs[number])}
        events += [trial, trial.completed(metrics)]
    return events


if __name__ == "__main__":
    main()
