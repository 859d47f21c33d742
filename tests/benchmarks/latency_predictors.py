"""Latency of NAS-Bench-201's cells on a new device, from 10 to 200 measurements there.

Of each of the ten devices of the table: learned from scratch, or with the nine others known. A
known device is one on which 900 random cells were measured; what it takes for others is predicted
from these, so nothing is read from the table that a team would not have. Reported are Spearman's
rank correlation and the share within 10 % of the table, over cells never measured on the new
device, as means over seeds; the last line, learned from 2,000 cells, tells how far many take one.

How far the table's own noise lets anyone get (three devices' times are whole milliseconds) stands
first. Cells whose edge 1>2 is `none` are the same network once nodes 1 and 2 are swapped, and are
in the table twice. Where the two measurements of such pairs have the rank correlation rho, each of
them has about sqrt(rho) with the truth (reliability: each is the truth and an error of its own),
so no predictor can be expected to reach more than ceiling = sqrt(rho). Which of a pair goes into
which column is drawn at random, with a fixed seed.

    .venv/bin/python tests/benchmarks/latency_predictors.py [--seeds 3] [--choose]

Published for leave-one-device-out: HELP (Lee et al. 2021), about 0.98 with 10 measurements.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache

import numpy as np
from bitfusion import measured
from numpy.typing import NDArray
from scipy.stats import spearmanr

from predictors.gaussian_process import GaussianProcess
from predictors.latency import FewShotLatency, most_informative
from searchspaces.tabular.nasbench201 import EDGES, NONE, describe, nasbench201
from workers.closed_form import ClosedForm
from workers.datasets import data_folder

COUNTS = (10, 20, 50, 200)
N_KNOWN = 900
N_CEILING = 2000
N_TEST = 3000
POOL = 1000
WITHIN = 0.1

Columns = NDArray[np.float64]


@cache
def table() -> tuple[tuple[str, ...], Columns, NDArray[np.float32], NDArray[np.float32]]:
    """Device names, `(n, 10)` milliseconds, `(n, 5)` operator counts, `(n, d)` all features."""
    found = nasbench201(data_folder())
    names = tuple(name for name in found.metrics if name.startswith("latency_ms_"))
    rows = found.genotypes
    latency = np.stack([found.columns[name] for name in names], axis=1)
    counts = np.stack([(rows == i).sum(axis=1) for i in range(5)], axis=1)
    structure = np.stack(list(describe(rows).values()), axis=1)
    each = np.eye(5)[rows].reshape(len(rows), -1)
    every = np.hstack([structure, each])
    return names, latency, counts.astype(np.float32), every.astype(np.float32)


@cache
def known_latency() -> Columns:
    """`(n, 10)` of every cell, predicted for each device from 900 measured ones."""
    _, latency, _, features = table()
    columns = []
    for j in range(latency.shape[1]):
        rows = np.random.default_rng(1000 + j).choice(len(latency), N_KNOWN, replace=False)
        process = GaussianProcess().fit(features[rows], latency[rows][:, [j]])
        columns.append(process.predict(features).mean[:, 0])
    return np.stack(columns, axis=1)


def ceilings() -> list[float]:
    """By device, what the rank correlation of any predictor is bounded by; see above."""
    found = nasbench201(data_folder())
    place = {tuple(row): i for i, row in enumerate(found.genotypes.tolist())}
    assert EDGES == ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
    pairs = [
        (i, place[in2, in1, NONE, out0, out2, out1])
        for (in1, in2, between, out0, out1, out2), i in place.items()
        if between == NONE
    ]
    twice = np.array([pair for pair in pairs if pair[0] < pair[1]])
    twice = np.random.default_rng(0).permuted(twice, axis=1)
    _, latency, _, _ = table()
    return [float(spearmanr(*column[twice].T).statistic) ** 0.5 for column in latency.T]


Choice = Callable[[NDArray[np.float32], Columns, int, int], NDArray[np.int64]]


def at_random(x: NDArray[np.float32], y: Columns, n: int, seed: int) -> NDArray[np.int64]:
    """Any n cells."""
    return np.random.default_rng(seed).choice(len(x), n, replace=False)


def informative(x: NDArray[np.float32], y: Columns, n: int, seed: int) -> NDArray[np.int64]:
    """Where one would be least certain, of a random thousand; the same for every new device."""
    pool = np.random.default_rng(seed).choice(len(x), POOL, replace=False)
    return pool[most_informative(x[pool], n, n_known=9)]


def one_by_one(x: NDArray[np.float32], y: Columns, n: int, seed: int) -> NDArray[np.int64]:
    """Ten like that, the others where the predictor fitted so far is least certain."""
    pool = np.random.default_rng(seed).choice(len(x), POOL, replace=False)
    chosen = list(most_informative(x[pool], min(n, 10), n_known=9))
    while len(chosen) < n:
        rows = pool[chosen]
        doubt = FewShotLatency(9).fit(x[rows], y[rows]).predict(x[pool]).std[:, 0]
        doubt[chosen] = -np.inf
        chosen.append(int(doubt.argmax()))
    return pool[chosen]


def scores(predicted: Columns, truth: Columns) -> tuple[float, float]:
    """Spearman's rho, and the share within 10 %."""
    near = np.abs(predicted / truth - 1.0) <= WITHIN
    return float(spearmanr(predicted, truth).statistic), float(near.mean())


def with_known(device: int, n: int, seed: int, choice: Choice) -> tuple[float, float]:
    """Few-shot: the nine others are known."""
    _, latency, counts, _ = table()
    others = np.delete(known_latency(), device, axis=1)
    x = np.hstack([others, counts]).astype(np.float32)
    y = latency[:, [device]]
    rows = choice(x, y, n, seed)
    test = held_out(rows, seed)
    found = FewShotLatency(n_known=9).fit(x[rows], y[rows]).predict(x[test])
    return scores(found.mean[:, 0], y[test, 0])


def from_scratch(device: int, n: int, seed: int) -> tuple[float, float]:
    """No other device is known."""
    _, latency, _, features = table()
    rows = np.random.default_rng(seed).choice(len(latency), n, replace=False)
    test = held_out(rows, seed)
    process = GaussianProcess().fit(features[rows], latency[rows][:, [device]])
    return scores(process.predict(features[test]).mean[:, 0], latency[test, device])


def held_out(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Cells to test on, none of them measured."""
    left = np.setdiff1d(np.arange(len(table()[1])), rows)
    return np.random.default_rng(seed + 77).choice(left, N_TEST, replace=False)


def compare(seeds: int, choices: dict[str, Choice]) -> None:
    """Print a line per way and number of measurements, a column per device."""
    names = [name.removeprefix("latency_ms_")[:9] for name in table()[0]]
    print(f"{'':<28}{'mean':>6}" + "".join(f"{name:>11}" for name in names))
    row("ceiling by repeated cells", ceilings())
    ways: dict[str, Callable[[int, int, int], tuple[float, float]]] = {"scratch": from_scratch}
    for name, choice in choices.items():
        ways[f"nine known, {name}"] = lambda d, n, s, c=choice: with_known(d, n, s, c)  # type: ignore[misc]
    for name, way in ways.items():
        for n in COUNTS:
            show(f"{name} {n}", way, n, len(names), seeds)
    show(f"scratch {N_CEILING}", from_scratch, N_CEILING, len(names), 1)


def show(
    title: str,
    way: Callable[[int, int, int], tuple[float, float]],
    n: int,
    devices: int,
    seeds: int,
) -> None:
    """Rank correlation, and below it the share within 10 %."""
    found = np.array([[way(d, n, s) for s in range(seeds)] for d in range(devices)]).mean(axis=1)
    for k, label in enumerate((title, "   within 10 %")):
        row(label, found[:, k].tolist())


def row(label: str, values: list[float]) -> None:
    """A line of the table: the mean, and a column per device."""
    cells = "".join(f"{value:>11.3f}" for value in values)
    print(f"{label:<28}{np.mean(values):>6.3f}{cells}", flush=True)


def table_sums() -> None:
    """BitFusion: how well a closed form, fitted to half the layers, tells sums of the others."""
    rng, layers = np.random.default_rng(0), measured()
    rng.shuffle(layers)  # type: ignore[arg-type]
    known, layers = layers[::2], layers[1::2]
    form = ClosedForm.fitted([layer for layer, _ in known], [ms for _, ms in known])
    truth, told = [], []
    for _ in range(2000):
        chosen = [layers[i] for i in rng.integers(0, len(layers), rng.integers(8, 25))]
        truth.append(sum(ms for _, ms in chosen))
        told.append(sum(form.of(layer) for layer, _ in chosen))
    rho, near = scores(np.array(told), np.array(truth))
    print(f"BitFusion, sums of 8 to 24 layers: Spearman {rho:.4f}, within 10 % {near:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="also fit after every measurement")
    given = parser.parse_args()
    ways: dict[str, Choice] = {"at random": at_random, "informative": informative}
    if given.choose:
        ways["one by one"] = one_by_one
    table_sums()
    compare(given.seeds, ways)
