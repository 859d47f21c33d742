"""How well every predictor ranks candidates it has not seen, by number of training points.

    NAS_DATA=../shared/data .venv/bin/python tests/benchmarks/predictor_tau.py --draws 10

Features are those searches use. Per draw, each predictor learns from the first 20, 50, 100 and 200
of random candidates and ranks 1,000 others; figures are Kendall's tau, mean and standard deviation
over draws, and median seconds of a fit on one thread.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from nas.benchmarks.runs import learner_of
from nas.core import Learner
from predictors.learners import LEARNERS
from predictors.validation import kendall_tau
from searchspaces.tabular import tabular_benchmark
from workers.datasets import data_folder

COUNTS, N_TEST = (20, 50, 100, 200), 1000
TARGETS = {
    "nasbench201": ("cifar10_test_accuracy", "cifar100_test_accuracy", "latency_ms_raspi4"),
    "nasbench101": ("cifar10_test_accuracy",),
}
SKIPPED = ("neural", "automatic")
"""Seconds a fit each, which searches of few trials can spare and this table cannot."""


def main() -> None:
    """Print one table a target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--all", action="store_true", help="the slow ones, too")
    args = parser.parse_args()
    names = [n for n in LEARNERS if args.all or n not in SKIPPED]
    with ProcessPoolExecutor(2) as pool:
        for space, metrics in TARGETS.items():
            for metric in metrics:
                jobs = [(space, metric, draw, names) for draw in range(args.draws)]
                found = np.array(list(pool.map(measured, jobs)))  # (draws, names, counts, 2)
                print(f"\n{space} {metric}, tau by training points; seconds a fit at {COUNTS[-1]}")
                for i, name in enumerate(names):
                    taus = found[:, i, :, 0]
                    cells = zip(taus.mean(0), taus.std(0, ddof=1), strict=True)
                    text = "".join(f"{m:9.3f} ± {s:.3f}" for m, s in cells)
                    print(f"{name:<26}{text}{np.median(found[:, i, -1, 1]):9.2f} s", flush=True)


def measured(job: tuple[str, str, int, list[str]]) -> list[list[tuple[float, float]]]:
    """Tau and seconds by predictor and number of points."""
    space, metric, draw, names = job
    table = tabular_benchmark(space, data_folder())
    drawn = np.random.default_rng(draw).choice(
        len(table.genotypes), COUNTS[-1] + N_TEST, replace=False
    )
    rows, y = table.genotypes[drawn], table.columns[metric][drawn]
    learners = [learner_of(table, draw, name) for name in names]
    return [[_fitted(learner, rows, y, n) for n in COUNTS] for learner in learners]


def _fitted(learner: Learner, rows: np.ndarray, y: np.ndarray, n: int) -> tuple[float, float]:
    x = learner.featurize(rows)
    started = time.perf_counter()
    fitted = learner.predictor().fit(x[:n], y[:n, None])
    seconds = time.perf_counter() - started
    predicted = fitted.predict(x[COUNTS[-1] :]).mean[:, 0]
    return kendall_tau(predicted, y[COUNTS[-1] :]), seconds


if __name__ == "__main__":
    main()
