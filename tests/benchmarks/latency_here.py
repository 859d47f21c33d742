"""Latency of the mobilenet-like space on this processor, predicted from few measurements.

Builds (or extends) this machine's table of layers, times fresh candidates, and predicts half of
them, never measured, from 0 to 50 of the others: by the table's sum, and by the few-shot process
of closed-form costs, of costs and the sum, and of costs and the sum where what to measure was
chosen. Reported are Spearman's rank correlation, the median relative error and the share within
10 %, as means over draws.

    .venv/bin/python tests/benchmarks/latency_here.py [--fresh 120] [--home FOLDER]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

import searchspaces
from nas.latency_tables import build_table
from nas.workspace import Workspace
from predictors.latency import FewShotLatency, most_informative
from workers.comparison import built
from workers.deployment import export_onnx
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.layers import layers_of
from workers.tables import LayerTable

SHAPE = (1, 28, 28)
COUNTS = (10, 20, 50)
DRAWS = 10

Columns = NDArray[np.float64]


def measured(
    family: searchspaces.ModelFamily, table: LayerTable, n: int
) -> tuple[Columns, Columns, Columns, float]:
    """`(n, 5)` log costs, `(n,)` sums and milliseconds, and the share of layers interpolated."""
    rows = family.space.sample(n, np.random.default_rng(2**20))
    sums, took, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for row in rows:
            export_onnx(built(family, family.space.candidate(row), True, True), SHAPE, path)
            told = table.sum_of(layers_of(path))
            sums.append(told.ms)
            shares.append(told.n_interpolated / told.n_layers)
            took.append(OnnxRuntimeProfiler(n_runs=300).profile(path).calm_ms)
    costs = np.stack([np.log1p(column) for column in family.costs(rows).values()], axis=1)
    return costs, np.array(sums), np.array(took), float(np.mean(shares))


def scores(told: Columns, took: Columns) -> Columns:
    """Spearman's rho (nan of equal predictions), median relative error, share within 10 %."""
    error = np.abs(told / took - 1.0)
    rho = spearmanr(told, took).statistic if np.ptp(told) else np.nan
    return np.array([rho, np.median(error), (error <= 0.1).mean()])


def halves(n: int, draw: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to measure of, and rows to predict."""
    order = np.random.default_rng(draw).permutation(n)
    return order[: n // 2], order[n // 2 :]


def few_shot(x: Columns, took: Columns, n: int, n_known: int, draw: int, chosen: bool) -> Columns:
    """Learned from `n` of one half, told of the other."""
    pool, test = halves(len(took), draw)
    wide = x.astype(np.float32)
    rows = pool[most_informative(wide[pool], n, n_known)] if chosen else pool[:n]
    found = FewShotLatency(n_known).fit(wide[rows], took[rows, None]).predict(wide[test])
    return scores(found.mean[:, 0], took[test])


def show(title: str, found: list[Columns]) -> None:
    """Means over draws, and the deviation of the first."""
    rho, error, near = np.mean(found, axis=0)
    spread = np.std(found, axis=0)[0]
    print(
        f"{title:<34} Spearman {rho:.3f} ± {spread:.3f}  error {error:.2%}  within 10 % {near:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fresh", type=int, default=120)
    parser.add_argument("--candidates", type=int, default=80)
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    family = searchspaces.family("mobilenet", SHAPE, 10, {})
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace.open(given.home or scratch)
        table = build_table(workspace, "cpu", family, given.candidates, 12, 0, print)
    print(f"{len(table.layers)} layers, error of sums by left-out files {table.error:.1%}")
    costs, sums, took, share = measured(family, table, given.fresh)
    load = os.getloadavg()[0]
    print(f"{len(took)} fresh candidates, {share:.0%} of layers interpolated; load {load:.1f}")
    show("table alone", [scores(sums, took)])
    both = np.hstack([sums[:, None], costs])
    for n in (n for n in COUNTS if n <= len(took) // 2):
        for title, x, known, chosen in (
            ("costs", costs, 0, False),
            ("costs and table", both, 1, False),
            ("costs and table, chosen", both, 1, True),
        ):
            found = [few_shot(x, took, n, known, draw, chosen) for draw in range(DRAWS)]
            show(f"{n} measured, {title}", found)
