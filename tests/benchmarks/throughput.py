"""Candidates per second: sample, canonical form, keys and costs, then with the predictor.

OMP_NUM_THREADS=1 .venv/bin/python tests/benchmarks/throughput.py --rows 100000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from predictors.encoders import with_costs
from predictors.gbdt import GradientBoostedTrees
from searchspaces import family

N_TRAINED = 100


def main() -> None:
    """Print the median of several repeats per step, and the sums the aims speak of."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    mobilenet = family("mobilenet", (1, 8, 8), 10)
    space, rng = mobilenet.space, np.random.default_rng(0)
    features = with_costs(space, mobilenet.costs)
    known = space.sample(N_TRAINED, rng)
    targets = np.stack([mobilenet.costs(known)[m] for m in ("macs", "weight_bytes")], axis=1)
    trees = GradientBoostedTrees().fit(features(known), targets)
    rows = space.sample(args.rows, rng)
    steps: dict[str, Callable[[], object]] = {
        "sample": lambda: space.sample(args.rows, rng),
        "canonical": lambda: space.canonical(rows),
        "keys": lambda: space.keys(rows),
        "costs": lambda: mobilenet.costs(rows),
        "encode with costs, predict 2 targets": lambda: trees.predict(features(rows)),
    }
    seconds = {name: timed(step, args.repeats) for name, step in steps.items()}
    for name, value in seconds.items():
        print(f"{name:<38} {value * 1e3:9.1f} ms {args.rows / value:14,.0f} rows/s")
    plain = sum(value for name, value in seconds.items() if "predict" not in name)
    print(f"{'without the predictor':<38} {plain * 1e3:9.1f} ms {args.rows / plain:14,.0f} rows/s")
    whole = sum(seconds.values())
    print(f"{'with the predictor':<38} {whole * 1e3:9.1f} ms {args.rows / whole:14,.0f} rows/s")


def timed(step: Callable[[], object], n_repeats: int) -> float:
    """Median seconds of `step` after one warm-up."""
    step()
    values = []
    for _ in range(n_repeats):
        started = time.perf_counter()
        step()
        values.append(time.perf_counter() - started)
    return median(values)


if __name__ == "__main__":
    main()
