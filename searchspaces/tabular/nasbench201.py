"""NAS-Bench-201: cells of four nodes, an operation on each of the six edges between them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import Decision, Genotypes, SearchSpace
from searchspaces.tabular._base import TabularBenchmark, opened

FILE = "nasbench201.npz"
NONE, SKIP, CONV1, CONV3, POOL = range(5)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))
"""Edges of the ways from node 0 to node 3."""

FREE = ("params_millions", "naswot", "logsynflow")
NOT_METRICS = ("edge_ops", "op_names", "edges")


def nasbench201(folder: Path) -> TabularBenchmark:
    """All 15,625 cells: accuracies after 200 epochs, cost, measured latency on ten devices.

    Cells that compute the same function are separate candidates, as each was trained by itself;
    their structural features are equal.

    Raises:
        InvalidInputError: the file is missing.

    Reference: Dong and Yang 2020; latencies of HW-NAS-Bench (Li et al. 2021) and HELP (Lee et
    al. 2021).
    """
    arrays = opened(folder / FILE)
    columns = {k: v.astype(np.float64) for k, v in arrays.items() if k not in NOT_METRICS}
    for values in columns.values():
        finite = np.isfinite(values)
        values[~finite] = values[finite].min()  # NASWOT of a cell without output is -inf
    space = SearchSpace(tuple(Decision(edge, OPERATIONS, ordered=False) for edge in EDGES))
    genotypes = arrays["edge_ops"].astype(np.int16)
    return TabularBenchmark("nasbench201", space, genotypes, columns, FREE, describe)


def describe(rows: Genotypes) -> dict[str, NDArray[np.float64]]:
    """`(n,)` structural features of `(n, 6)` rows.

    Operations on edges that reach the output, their counts, how many ways carry which sequence of
    operations (skips left out), convolutions along the longest way and in the mean.
    """
    open_ways = np.stack([(rows[:, path] != NONE).all(axis=1) for path in PATHS], axis=1)
    live = np.zeros(rows.shape, dtype=np.bool_)
    for k, path in enumerate(PATHS):
        live[:, path] |= open_ways[:, k, None]
    effective = np.where(live, rows, NONE)
    columns: dict[str, NDArray[np.float64]] = {}
    for edge, name in enumerate(EDGES):
        for operation in range(1, len(OPERATIONS)):
            key = f"live {name}={OPERATIONS[operation]}"
            columns[key] = (effective[:, edge] == operation).astype(np.float64)
    for operation in range(1, len(OPERATIONS)):
        columns[f"n {OPERATIONS[operation]}"] = (effective == operation).sum(axis=1).astype(float)
    columns |= _way_counts(rows, open_ways)
    convolutions = np.stack(
        [np.isin(rows[:, path], (CONV1, CONV3)).sum(axis=1) for path in PATHS], axis=1
    )
    convolutions = np.where(open_ways, convolutions, 0)
    n_ways = open_ways.sum(axis=1)
    columns["ways"] = n_ways.astype(np.float64)
    columns["depth"] = convolutions.max(axis=1).astype(np.float64)
    columns["mean depth"] = convolutions.sum(axis=1) / np.maximum(n_ways, 1)
    return columns


def _way_counts(rows: Genotypes, open_ways: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """How many ways carry each sequence of up to two operations, and of three."""
    kept = (CONV1, CONV3, POOL)
    codes = np.zeros(open_ways.shape, dtype=np.int64)
    for k, path in enumerate(PATHS):
        for edge in path:
            operation = rows[:, edge]
            moved = codes[:, k] * len(OPERATIONS) + operation
            codes[:, k] = np.where(operation == SKIP, codes[:, k], moved)
    codes[~open_ways] = -1
    columns = {}
    for length in range(4):
        for sequence in product(kept, repeat=length):
            code = 0
            for kind in sequence:
                code = code * len(OPERATIONS) + kind
            name = "way " + (" ".join(OPERATIONS[o] for o in sequence) or "skip")
            columns[name] = (codes == code).sum(axis=1).astype(np.float64)
    return columns
