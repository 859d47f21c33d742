"""Peak memory of loading and running files on this processor, predicted from few measurements.

Exports fresh candidates with random weights, measures each twice in processes of its own, and
predicts half of them, never measured, from 10 to 50 of the others: by the mean of those, by a
process of closed-form costs, and by what jobs use, a process linear in bytes and nodes of the
file. Most of the memory is the runtime's own, so within 10 % is easily said; Spearman's rank
correlation tells candidates apart. Other load on the machine does no harm.

    .venv/bin/python tests/benchmarks/memory_here.py [--space cells] [--fresh 120]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from latency_here import Columns, halves, scores, show
from scipy.stats import spearmanr

import searchspaces
from predictors.latency import FewShotLatency
from workers.comparison import built
from workers.deployment import export_onnx
from workers.files import file_features
from workers.isolation import Isolated
from workers.runtimes import DEFAULT

SHAPES = {"mobilenet": (1, 28, 28), "cells": (3, 32, 32)}
COUNTS = (10, 20, 50)
DRAWS = 20


def measured(space: str, n: int) -> tuple[Columns, Columns, Columns]:
    """`(n, c)` log costs, `(n, 2)` features of files, and `(n, 2)` bytes, each measured twice."""
    shape = SHAPES[space]
    family = searchspaces.family(space, shape, 10, {})
    rows = family.space.sample(4 * n, np.random.default_rng(2**20))
    rows = rows[family.connected(rows)][:n]
    files, peaks = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for row in rows:
            export_onnx(built(family, family.space.candidate(row), True, True), shape, path)
            files.append(list(file_features(path).values()))
            peaks.append([Isolated().peak_memory(path, DEFAULT) for _ in range(2)])
    costs = np.stack([np.log1p(column) for column in family.costs(rows).values()], axis=1)
    return costs, np.array(files), np.array(peaks, dtype=np.float64)


def predicted(x: Columns, took: Columns, n_known: int, rows: Columns, test: Columns) -> Columns:
    """`(m,)` bytes of `test`, learned from `rows`; of no columns, their mean."""
    if not x.shape[1]:
        return np.full(len(test), took[rows].mean())
    wide = x.astype(np.float32)
    found = FewShotLatency(n_known).fit(wide[rows], took[rows, None]).predict(wide[test])
    return found.mean[:, 0]


def drawn(x: Columns, took: Columns, n: int, n_known: int) -> list[Columns]:
    """Scores of predictions of one half from `n` of the other, by draw."""
    found = []
    for draw in range(DRAWS):
        pool, test = halves(len(took), draw)
        found.append(scores(predicted(x, took, n_known, pool[:n], test), took[test]))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--space", choices=SHAPES, default="mobilenet")
    parser.add_argument("--fresh", type=int, default=120)
    given = parser.parse_args()
    torch.set_num_threads(1)
    costs, files, peaks = measured(given.space, given.fresh)
    took, again = peaks.T
    apart, rho = np.median(np.abs(again / took - 1.0)), spearmanr(took, again).statistic
    low, high = took.min() / 1e6, took.max() / 1e6
    print(f"{given.space}: {len(took)} candidates of {low:.2f} to {high:.2f} MB")
    print(f"measured again: {apart:.2%} apart, Spearman {rho:.3f}")
    for n in (n for n in COUNTS if n <= len(took) // 2):
        show(f"{n} measured, their mean", drawn(costs[:, :0], took, n, 0))
        show(f"{n} measured, costs", drawn(costs, took, n, 0))
        show(f"{n} measured, bytes and nodes", drawn(files, took, n, files.shape[1]))
