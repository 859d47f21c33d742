"""Accuracy against latency on NAS-Bench-201's ten devices: how soon a strategy has the front.

    NAS_DATA=../shared/data .venv/bin/python tests/benchmarks/fronts.py --seeds 3

Figures are shares of the true front's hypervolume, means over seeds: device by device after 100
queries, and over all devices after 50, 60, 100, 130 and 250. Last, how many queries the first
strategy takes to the best other's share after the whole budget: the median over seeds of each
device, and the median of those.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from nas.benchmarks.runs import BenchmarkSpec
from searchspaces.tabular import tabular_benchmark
from workers.datasets import data_folder

SPACE, ACCURACY, LATENCY = "nasbench201", "cifar10_test_accuracy", "latency_ms_"
STRATEGIES = ("predictor-guided", "optuna-tpe", "nsga2", "regularized-evolution", "random")
COUNTS = (50, 60, 100, 130, 250)
BY_DEVICE = 100
Traces = dict[str, dict[str, NDArray[np.float64]]]
"""`(seeds, budget)` shares by device and strategy."""


def main() -> None:
    """Run every strategy on every device, two processes at once, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget", type=int, default=250)
    args = parser.parse_args()
    names: list[str] = list(args.strategies)
    metrics = tabular_benchmark(SPACE, data_folder()).metrics
    devices = [m.removeprefix(LATENCY) for m in metrics if m.startswith(LATENCY)]
    with ProcessPoolExecutor(2) as pool:
        jobs = [(d, n, s, args.budget) for n in names for d in devices for s in range(args.seeds)]
        found = iter(pool.map(trace, jobs))
        by_name = {
            n: {d: np.array([next(found) for _ in range(args.seeds)]) for d in devices}
            for n in names
        }
    show({d: {n: by_name[n][d] for n in names} for d in devices}, names, args.budget)


def trace(job: tuple[str, str, int, int]) -> list[float]:
    """The share after each query of one run."""
    device, strategy, seed, budget = job
    torch.set_num_threads(1)
    objectives = (ACCURACY, f"{LATENCY}{device}:min")
    spec = BenchmarkSpec(SPACE, objectives, (strategy,), seeds=1, budget=budget)
    return cast(list[float], spec.contest(data_folder()).run(strategy, seed).trace)


def show(traces: Traces, names: list[str], budget: int) -> None:
    """The two tables, and the queries to the best other's share."""
    counts = [n for n in COUNTS if n <= budget]
    print(f"{f'after {BY_DEVICE} queries':<20}" + "".join(f"{name:>23}" for name in names))
    for device, of in traces.items():
        print(f"{device:<20}" + "".join(f"{of[n][:, BY_DEVICE - 1].mean():>23.3f}" for n in names))
    print(f"\n{'over all devices':<20}" + "".join(f"{n:>8}" for n in counts))
    for name in names:
        mean = np.mean([of[name] for of in traces.values()], axis=(0, 1))
        print(f"{name:<24}" + "".join(f"{mean[n - 1]:>8.3f}" for n in counts))
    medians = []
    for of in traces.values():
        goal = max(of[name][:, -1].mean() for name in names[1:])
        medians.append(float(np.median([queries(run, goal) for run in of[names[0]]])))
    told = ", ".join("never" if np.isinf(m) else f"{m:.0f}" for m in medians)
    print(f"\n{names[0]}, queries to the best other's share after {budget}, device by device:")
    print(f"{told}; median {np.median(medians):.1f}")


def queries(run: NDArray[np.float64], goal: float) -> float:
    """How many it took to reach `goal`; infinity if never."""
    reached = np.flatnonzero(run >= goal)
    return float(reached[0] + 1) if len(reached) else np.inf


if __name__ == "__main__":
    main()
