"""NAS-Bench-101: cells of up to seven vertices with an operation on each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import Cell, Decision, Genotypes, SearchSpace
from searchspaces.tabular._base import TabularBenchmark, opened

FILE = "nasbench101.npz"
N_VERTICES = 7
OPERATIONS = ("conv3x3", "conv1x1", "maxpool3x3")
PAIRS = tuple(combinations(range(N_VERTICES), 2))
EDGES = tuple(f"{i}>{j}" for i, j in PAIRS)
VERTICES = tuple(f"operation{i}" for i in range(1, N_VERTICES - 1))
CELL = Cell(VERTICES, EDGES)
FREE = ("params",)
LONGEST = 3
"""Operations on a way whose order counts as a feature; longer ways count by length."""


def nasbench101(folder: Path) -> TabularBenchmark:
    """All 423,624 cells: CIFAR-10 test accuracy after 108 epochs, parameters.

    Raises:
        InvalidInputError: the file is missing.

    Reference: Ying et al. 2019.
    """
    arrays = opened(folder / FILE)
    space = SearchSpace(
        (
            *(Decision(edge, (False, True), ordered=False) for edge in EDGES),
            *(Decision(vertex, OPERATIONS, ordered=False) for vertex in VERTICES),
        ),
        CELL,
    )
    columns = {
        "cifar10_test_accuracy": arrays["cifar10_test_accuracy"].astype(np.float64),
        "params": arrays["params"].astype(np.float64),
    }
    genotypes = space.canonical(_genotypes(arrays))
    return TabularBenchmark("nasbench101", space, genotypes, columns, FREE, describe)


def _genotypes(arrays: Mapping[str, NDArray]) -> Genotypes:
    """`(n, 26)` rows; smaller cells have their output moved to the last vertex."""
    bits, sizes, operations = arrays["adjacency_bits"], arrays["n_vertices"], arrays["ops"]
    edges = (bits[:, None] >> np.arange(len(PAIRS), dtype=np.uint32)) & 1
    whole = np.zeros((len(bits), N_VERTICES, N_VERTICES), dtype=np.bool_)
    labels = np.zeros((len(bits), len(VERTICES)), dtype=np.int16)
    for k, (i, j) in enumerate(PAIRS):
        whole[:, i, j] = edges[:, k] == 1
    for size in np.unique(sizes):
        members = sizes == size
        vertices = [*range(size - 1), N_VERTICES - 1]
        small = whole[members][:, :size, :size]
        moved = np.zeros((len(small), N_VERTICES, N_VERTICES), dtype=np.bool_)
        moved[np.ix_(range(len(small)), vertices, vertices)] = small
        whole[members] = moved
        labels[members, : size - 2] = operations[members, 1 : size - 1]
    return np.concatenate([CELL.edge_columns(whole).T, labels], axis=1)


def describe(rows: Genotypes) -> dict[str, NDArray[np.float64]]:
    """`(n,)` structural features of `(n, 26)` canonical rows.

    Counts of operations, vertices and edges, depth, inputs of the output (they share its channels),
    and how many ways from input to output carry which sequence of operations.
    """
    adjacency = CELL.adjacency(rows[:, : len(EDGES)].T)
    operations = rows[:, len(EDGES) :]
    columns = {
        f"n {name}": (operations == o).sum(axis=1).astype(np.float64)
        for o, name in enumerate(OPERATIONS)
    }
    columns["vertices"] = (operations >= 0).sum(axis=1).astype(np.float64)
    columns["edges"] = adjacency.sum(axis=(1, 2)).astype(np.float64)
    columns["inputs of output"] = adjacency[:, :, -1].sum(axis=1).astype(np.float64)
    columns["outputs of input"] = adjacency[:, 0].sum(axis=1).astype(np.float64)
    columns["input to output"] = adjacency[:, 0, -1].astype(np.float64)
    return columns | _way_counts(adjacency, operations)


def _way_counts(adjacency: NDArray[np.bool_], operations: Genotypes) -> dict[str, NDArray]:
    """Ways by their sequence of up to `LONGEST` operations, and by their length."""
    n, v = adjacency.shape[:2]
    edges = adjacency.astype(np.float64)
    by_length = np.zeros((v, n, v))  # [l, :, j]: ways of l edges from the input to vertex j
    by_length[0, :, 0] = 1.0
    for length in range(1, v):
        for j in range(1, v):
            by_length[length, :, j] = (by_length[length - 1] * edges[:, :, j]).sum(axis=1)
    columns = {f"ways of {k}": by_length[k, :, -1] for k in range(1, v)}
    longest = np.where(by_length[:, :, -1] > 0, np.arange(v)[:, None], 0).max(axis=0)
    columns["depth"] = longest.astype(np.float64)
    ending: dict[tuple[int, ...], NDArray] = {
        (): np.eye(v)[np.zeros(n, dtype=np.int64)]
    }  # ways by sequence, up to each vertex
    for length in range(1, LONGEST + 1):
        for sequence in product(range(len(OPERATIONS)), repeat=length):
            before = ending[sequence[:-1]]
            arriving = np.einsum("ni,nij->nj", before, edges)
            arriving[:, 1:-1] *= operations == sequence[-1]
            arriving[:, [0, -1]] = 0.0
            ending[sequence] = arriving
            name = "way " + " ".join(OPERATIONS[o] for o in sequence)
            columns[name] = (arriving * edges[:, :, -1]).sum(axis=1)
    return columns
