"""NAS-Bench-201: cells of four nodes, an operation on each of the six edges between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import Decision, Genotypes, SearchSpace
from nas.core.cell_features import graph_features
from nas.core.graphs import Graphs, live_part, without
from searchspaces.tabular._base import TabularBenchmark, opened

FILE = "nasbench201.npz"
NONE, SKIP, CONV1 = range(3)
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")


def _links() -> NDArray[np.bool_]:
    """`(8, 8)` whether one operation's result is what another takes: input, edges, output."""
    ends = [("", "0"), *((edge[0], edge[-1]) for edge in EDGES), ("3", "end")]
    return np.array([[source[1] == target[0] for target in ends] for source in ends])


LINKS = _links()
FREE = ("params_millions", "naswot", "logsynflow")
NOT_METRICS = ("edge_ops", "op_names", "edges")


def nasbench201(folder: Path) -> TabularBenchmark:
    """All 15,625 cells: accuracies after 200 epochs, cost, measured latency on ten devices.

    Cells that compute the same function are separate candidates, as each was trained by itself;
    their structural features differ at most in how often an operation was written down.

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
    return TabularBenchmark("nasbench201", space, genotypes, columns, FREE, describe, EDGES, graphs)


def describe(rows: Genotypes) -> dict[str, NDArray[np.float64]]:
    """`(n,)` structural features of `(n, 6)` rows.

    Those of their graphs, and how often each operation was written down, as devices compute also
    what is not used.
    """
    columns = graph_features(graphs(rows))
    for operation, name in enumerate(OPERATIONS):
        columns[f"written {name}"] = (rows == operation).sum(axis=1).astype(np.float64)
    return columns


def graphs(rows: Genotypes) -> Graphs:
    """The cells of `(n, 6)` rows with their edges' operations as vertices.

    What does not reach the output is left out, and so are skips: edges lead past them.
    """
    carries = np.ones((len(rows), len(EDGES) + 2), dtype=np.bool_)
    carries[:, 1:-1] = rows != NONE
    edges = live_part(LINKS & carries[:, :, None] & carries[:, None, :])
    skips = np.zeros_like(carries)
    skips[:, 1:-1] = rows == SKIP
    kinds = np.array([-1, -1, 0, 1, 2])  # none and skips are no vertices
    return Graphs(without(edges, skips), kinds[rows], OPERATIONS[CONV1:])
