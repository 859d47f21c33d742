"""One joint search against the pipeline architecture, then pruning, then bits, at equal cost.

    .venv/bin/python tests/benchmarks/joint.py --seeds 5 --scores 300
    .venv/bin/python tests/benchmarks/joint.py --seeds 5 --scores 300 --cost latency

Both score the same number of candidates by the same supernet (small networks on digits, 2 to 32
bits) and end in a front over validation accuracy and a cost: weight bytes, or latency on the
BitFusion accelerator (see `bitfusion.py`; a strategy learns it from scored candidates alone). The
pipeline spends a third of its scores on each step: predictor-guided search of unquantized,
unpruned architectures; keep ratios of three architectures of its front (predictor-guided), then the
cheapest that loses at most a point; predictor-guided search of the bits of what is left.
Hypervolume is the share of the box from accuracy 0.5 and the most expensive to the cheapest cost
that any of the searches scored, on a logarithmic scale.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from bitfusion import latency_ms
from supernet import DEFAULT, problem, score, trained_supernet

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

COSTS = {"bytes": "weight_bytes", "latency": "latency_ms"}
N_ARCHITECTURES = 3
TOLERANCE = 0.01
COMPRESSION = ("keep", "bits", "granularity")
MOST_ERROR = 0.5


@dataclass(frozen=True)
class Model:
    """One scored candidate."""

    values: Mapping[str, Value]
    error: float
    cost: float


Scored = list[Model]


def main() -> None:
    """Print hypervolume and accuracy at equal cost, seed by seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--scores", type=int, default=300)
    parser.add_argument("--cost", choices=list(COSTS), default="bytes")
    args = parser.parse_args()
    gains = []
    with ProcessPoolExecutor(2) as pool:
        runs = [pool.submit(compared, seed, args.scores, args.cost) for seed in range(args.seeds)]
        for seed, run in enumerate(runs):
            (joint, pipeline, random), seconds = run.result()
            gained, ratio = accuracy_gained(joint, pipeline), cost_ratio(joint, pipeline)
            of_joint, of_pipeline, of_random = shares(joint, pipeline, random)
            gains.append((of_joint - of_pipeline, gained, ratio))
            print(
                f"seed {seed} hypervolume: joint {of_joint:.4f} pipeline {of_pipeline:.4f} "
                f"random {of_random:.4f}; accuracy at equal cost {100 * gained:+.1f} points; cost "
                f"at equal accuracy {ratio:.2f}; scores {len(joint)} {len(pipeline)} "
                f"{len(random)}; joint search {seconds:.0f} s",
                flush=True,
            )
    hypervolumes, accuracies, ratios = np.mean(gains, axis=0)
    print(
        f"mean gain: hypervolume {hypervolumes:+.4f}, accuracy {100 * accuracies:+.2f} points, "
        f"cost at equal accuracy {ratios:.2f}"
    )


class Bench:
    """A trained supernet, and searches over its space or narrowed ones."""

    def __init__(self, seed: int, cost: str) -> None:
        self.cost = COSTS[cost]
        self.goals = Goals.parse(["accuracy", self.cost])
        self.supernet, self.data = trained_supernet(DEFAULT, seed)
        self.family = problem()[0]
        self.seed = seed
        self._known: dict[str, dict[str, float]] = {}

    def search(self, space: SearchSpace, n: int, guided: bool = True) -> Scored:
        """Score `n` candidates of `space`, narrowed from the whole one; fewer if it is small."""
        strategy: SearchStrategy = RandomSearch(space, self.seed)
        if guided:
            costs = partial(self.costs, space)
            strategy = PredictorGuided(
                space,
                self.goals,
                self.seed,
                GradientBoostedTrees(seed=self.seed),
                with_costs(space, costs),
                costs,
                n_initial=max(6, n // 12),
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
            metrics = self.score(row[0])
            strategy.tell([trial])
            strategy.tell([trial.completed(metrics)])
            scored.append(Model(values, 1 - metrics["accuracy"], metrics[self.cost]))
        return scored

    def score(self, row: Genotypes) -> dict[str, float]:
        """Inherited validation accuracy, and cost, of a row of the whole space."""
        candidate = self.family.space.candidate(row)
        if candidate.key not in self._known:
            metrics = {"accuracy": score(self.supernet, candidate, self.data)}
            if self.cost == "latency_ms":
                network = self.supernet.extract(candidate)
                metrics["latency_ms"] = latency_ms(network, self.data.input_shape)
            else:
                metrics["weight_bytes"] = float(self.family.costs(row[None])["weight_bytes"][0])
            self._known[candidate.key] = metrics
        return self._known[candidate.key]

    def costs(self, space: SearchSpace, rows: Genotypes) -> CostTable:
        """Costs of rows of a narrowed space."""
        return self.family.costs(self.family.space.widened(rows, space))


def compared(seed: int, n_scores: int, cost: str) -> tuple[tuple[Scored, Scored, Scored], float]:
    """What joint search, pipeline and random search of one seed scored; seconds of the first."""
    bench = Bench(seed, cost)
    whole = bench.family.space
    started = time.perf_counter()
    joint = bench.search(whole, n_scores)
    seconds = time.perf_counter() - started
    random = bench.search(whole, n_scores, guided=False)
    return (joint, pipeline(bench, n_scores), random), seconds


def pipeline(bench: Bench, n_scores: int) -> Scored:
    """Architecture, then pruning, then bits; all that was scored on the way."""
    whole, third = bench.family.space, n_scores // 3
    unpruned = {name: [1.0] for name in whole.names if name.endswith("keep")}
    floats = {name: [32] for name in whole.names if name.endswith("weight_bits")}
    scored = bench.search(whole.narrowed({**unpruned, **floats}), third)
    front = sorted(best(scored), key=lambda s: s.cost)
    places = np.linspace(0, len(front) - 1, N_ARCHITECTURES).round().astype(int)
    for i, place in enumerate(places):
        fixed = {k: [v] for k, v in front[place].values.items() if not k.endswith(COMPRESSION)}
        pruned = bench.search(whole.narrowed({**fixed, **floats}), third // N_ARCHITECTURES)
        within = front[place].error + TOLERANCE
        smallest = min((s for s in pruned if s.error <= within), key=lambda s: s.cost, default=None)
        kept = (smallest or front[place]).values
        fixed |= {k: [v] for k, v in kept.items() if k.endswith("keep")}
        scored += pruned
        left = (n_scores - len(scored)) // (N_ARCHITECTURES - i)  # what small steps did not use
        scored += bench.search(whole.narrowed(fixed), left)
    return scored


def best(scored: Scored) -> Scored:
    """The front over error and cost."""
    losses = np.array([[s.error, s.cost] for s in scored])
    return [s for s, keep in zip(scored, non_dominated(losses), strict=True) if keep]


def shares(*searches: Scored) -> list[float]:
    """Hypervolume of each as a share of the box that holds them all."""
    costs = np.log([s.cost for scored in searches for s in scored])
    low, high = costs.min(), costs.max()
    found = []
    for scored in searches:
        cost = (np.log([s.cost for s in scored]) - low) / (high - low)
        losses = np.stack([[s.error / MOST_ERROR for s in scored], cost], axis=1)
        found.append(hypervolume(losses, np.ones(2)))
    return found


def cost_ratio(one: Scored, other: Scored) -> float:
    """Geometric mean over the other's front of the cost at which `one` is as accurate."""
    ratios = []
    for model in best(other):
        costs = [s.cost for s in one if s.error <= model.error]
        if costs and model.error < MOST_ERROR:
            ratios.append(np.log(min(costs) / model.cost))
    return float(np.exp(np.mean(ratios)))


def accuracy_gained(one: Scored, other: Scored) -> float:
    """Mean over the other's front of how much more accurate `one` is at no more cost."""
    gaps = []
    for model in best(other):
        errors = [s.error for s in one if s.cost <= model.cost]
        if errors:
            gaps.append(model.error - min(errors))
    return float(np.mean(gaps))


if __name__ == "__main__":
    main()
