"""NAS-Bench-101: cells of up to seven vertices with an operation on each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import Cell, Decision, Genotypes, SearchSpace
from searchspaces.tabular._base import TabularBenchmark, nothing, opened

FILE = "nasbench101.npz"
N_VERTICES = 7
OPERATIONS = ("conv3x3", "conv1x1", "maxpool3x3")
PAIRS = tuple(combinations(range(N_VERTICES), 2))
EDGES = tuple(f"{i}>{j}" for i, j in PAIRS)
VERTICES = tuple(f"operation{i}" for i in range(1, N_VERTICES - 1))
CELL = Cell(VERTICES, EDGES)
FREE = ("params",)


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
    return TabularBenchmark("nasbench101", space, genotypes, columns, FREE, nothing)


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
