"""One joint search against the pipeline architecture, then pruning, then bits, at equal cost.

    .venv/bin/python tests/benchmarks/joint.py --seeds 5 --scores 300

Both score the same number of candidates by the same supernet (small networks on digits, 2 to 32
bits) and end in a front over validation accuracy and weight bytes. The pipeline spends a third of
its scores on each step: predictor-guided search of float, unpruned architectures; keep ratios of
three architectures of its front (predictor-guided), then the smallest that loses at most a point;
predictor-guided search of the bits of what is left. Hypervolume
is the share of the box from accuracy 0.5 and 20,000 bytes (on a logarithmic scale down to 200).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from supernet import RECIPE, problem, score, trained_supernet

from nas.core import (
    CostTable,
    Evaluate,
    Genotypes,
    Goals,
    SearchSpace,
    SearchStrategy,
    Trial,
    Value,
    hypervolume,
    non_dominated,
)
from nas.strategies import PredictorGuided, RandomSearch
from predictors.encoders import with_costs
from predictors.gbdt import GradientBoostedTrees

GOALS = Goals.parse(["accuracy", "weight_bytes"])
N_ARCHITECTURES = 3
TOLERANCE = 0.01
COMPRESSION = ("keep", "bits", "granularity")
MOST_ERROR, LEAST_BYTES, MOST_BYTES = 0.5, 200.0, 20_000.0


@dataclass(frozen=True)
class Model:
    """One scored candidate."""

    values: Mapping[str, Value]
    error: float
    size: float


Scored = list[Model]


def main() -> None:
    """Print hypervolume and accuracy at equal size, seed by seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scores", type=int, default=300)
    args = parser.parse_args()
    gains = []
    with ProcessPoolExecutor(2) as pool:
        runs = [pool.submit(compared, seed, args.scores) for seed in range(args.seeds)]
        for seed, run in enumerate(runs):
            joint, pipeline, random = run.result()
            gained = accuracy_gained(joint, pipeline)
            gains.append((share(joint) - share(pipeline), gained))
            print(
                f"seed {seed} hypervolume: joint {share(joint):.4f} pipeline {share(pipeline):.4f} "
                f"random {share(random):.4f}; accuracy at equal size {100 * gained:+.1f} points; "
                f"scores {len(joint)} {len(pipeline)} {len(random)}",
                flush=True,
            )
    hypervolumes, accuracies = np.mean(gains, axis=0)
    print(f"mean gain: hypervolume {hypervolumes:+.4f}, accuracy {100 * accuracies:+.2f} points")


class Bench:
    """A trained supernet, and searches over its space or narrowed ones."""

    def __init__(self, seed: int) -> None:
        self.supernet, self.data = trained_supernet(RECIPE, seed)
        self.family = problem()[0]
        self.seed = seed
        self._known: dict[str, float] = {}

    def search(self, space: SearchSpace, n: int, guided: bool = True) -> Scored:
        """Score `n` candidates of `space`, narrowed from the whole one; fewer if it is small."""
        strategy: SearchStrategy = RandomSearch(space, self.seed)
        if guided:
            costs = partial(self.costs, space)
            strategy = PredictorGuided(
                space,
                GOALS,
                self.seed,
                GradientBoostedTrees(seed=self.seed),
                with_costs(space, costs),
                costs,
                n_initial=max(6, n // 6),
            )
        scored: Scored = []
        for number in range(n):
            tasks = strategy.ask(1)
            if not tasks:
                break
            trial = Trial(number, tasks[0])
            assert isinstance(trial.task, Evaluate)
            values = trial.task.candidate.values
            row = self.family.space.widened(space.row(values)[None], space)
            metrics = {
                "accuracy": self.score(row[0]),
                "weight_bytes": float(self.family.costs(row)["weight_bytes"][0]),
            }
            strategy.tell([trial])
            strategy.tell([trial.completed(metrics)])
            scored.append(Model(values, 1 - metrics["accuracy"], metrics["weight_bytes"]))
        return scored

    def score(self, row: Genotypes) -> float:
        """Inherited validation accuracy of a row of the whole space."""
        candidate = self.family.space.candidate(row)
        if candidate.key not in self._known:
            self._known[candidate.key] = score(self.supernet, candidate, self.data)
        return self._known[candidate.key]

    def costs(self, space: SearchSpace, rows: Genotypes) -> CostTable:
        """Costs of rows of a narrowed space."""
        return self.family.costs(self.family.space.widened(rows, space))


def compared(seed: int, n_scores: int) -> tuple[Scored, Scored, Scored]:
    """What joint search, pipeline and random search of one seed scored."""
    bench = Bench(seed)
    whole = bench.family.space
    joint = bench.search(whole, n_scores)
    return joint, pipeline(bench, n_scores), bench.search(whole, n_scores, guided=False)


def pipeline(bench: Bench, n_scores: int) -> Scored:
    """Architecture, then pruning, then bits; all that was scored on the way."""
    whole, third = bench.family.space, n_scores // 3
    unpruned = {name: [1.0] for name in whole.names if name.endswith("keep")}
    floats = {name: [32] for name in whole.names if name.endswith("weight_bits")}
    scored = bench.search(whole.narrowed({**unpruned, **floats}), third)
    front = sorted(best(scored), key=lambda s: s.size)
    places = np.linspace(0, len(front) - 1, N_ARCHITECTURES).round().astype(int)
    for i, place in enumerate(places):
        fixed = {k: [v] for k, v in front[place].values.items() if not k.endswith(COMPRESSION)}
        pruned = bench.search(whole.narrowed({**fixed, **floats}), third // N_ARCHITECTURES)
        within = front[place].error + TOLERANCE
        smallest = min((s for s in pruned if s.error <= within), key=lambda s: s.size, default=None)
        kept = (smallest or front[place]).values
        fixed |= {k: [v] for k, v in kept.items() if k.endswith("keep")}
        scored += pruned
        left = (n_scores - len(scored)) // (N_ARCHITECTURES - i)  # what small steps did not use
        scored += bench.search(whole.narrowed(fixed), left)
    return scored


def best(scored: Scored) -> Scored:
    """The front over error and size."""
    losses = np.array([[s.error, s.size] for s in scored])
    return [s for s, keep in zip(scored, non_dominated(losses), strict=True) if keep]


def share(scored: Scored) -> float:
    """Hypervolume as a share of the box."""
    size = np.log([s.size for s in scored])
    low, high = np.log(LEAST_BYTES), np.log(MOST_BYTES)
    losses = np.stack([[s.error / MOST_ERROR for s in scored], (size - low) / (high - low)], axis=1)
    return hypervolume(losses, np.ones(2))


def accuracy_gained(one: Scored, other: Scored) -> float:
    """Mean over the other's front of how much more accurate `one` is at no more bytes."""
    gaps = []
    for model in best(other):
        errors = [s.error for s in one if s.size <= model.size]
        if errors:
            gaps.append(model.error - min(errors))
    return float(np.mean(gaps))


if __name__ == "__main__":
    main()
