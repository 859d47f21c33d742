"""What a predictor may know of a cell: numbers that isomorphic cells share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.graphs import Edges, Graphs

Columns = dict[str, NDArray[np.float64]]


def graph_features(graphs: Graphs) -> Columns:
    """`(n,)` structural features by name.

    - How many vertices have each operator, and how many edges join each ordered pair of operators,
      input and output included: the features of the Weisfeiler-Lehman edge kernel at height 0.
      Greater heights make a feature of each whole neighbourhood, and most are seen only once.
    - Vertices, edges, and those at input and output.
    - Ways from input to output: how many; the operators along the longest, the shortest and the
      mean one; of each operator the most and the mean number along a way.

    All are sums and extremes over the graph, so the order of vertices does not matter. Different
    graphs may have the same features.

    Reference: Shervashidze et al. 2011 (Weisfeiler-Lehman graph kernels), and Ru et al. 2021
    (NAS-BOWL) for these on cells; White et al. 2021 (BANANAS) for ways from input to output.
    """
    edges, labels, names = graphs.edges, graphs.labels, graphs.names
    counts = labels[:, :, 2:].sum(axis=1)  # (n, operators)
    columns = {f"n {name}": counts[:, o] for o, name in enumerate(names)}
    columns |= _joints(edges, labels, names)
    columns["vertices"] = counts.sum(axis=1)
    columns["edges"] = edges.sum(axis=(1, 2))
    columns["outputs of input"] = edges[:, 0].sum(axis=1)
    columns["inputs of output"] = edges[:, :, -1].sum(axis=1)
    return columns | _along_ways(edges, labels[:, :, 2:], names)


# -------------------------------------------------------------------- inside


def _joints(edges: Edges, labels: NDArray[np.float64], names: Sequence[str]) -> Columns:
    """Edges by the operators at their ends."""
    joints = labels.transpose(0, 2, 1) @ edges @ labels  # (n, source, target)
    ends = ["input", "output", *names]
    return {
        f"edges {ends[a]} > {ends[b]}": joints[:, a, b]
        for a in range(len(ends))
        for b in range(len(ends))
        if a != 1 and b != 0  # nothing leaves the output or enters the input
    }


def _along_ways(edges: Edges, operators: NDArray[np.float64], names: Sequence[str]) -> Columns:
    """Ways by number, and operators along them; 0 where there is no way."""
    n, v = edges.shape[:2]
    here = np.concatenate([operators, operators.sum(axis=2, keepdims=True)], axis=2)
    ways, least = np.zeros((n, v)), np.full((n, v), np.inf)
    most, total = np.full(here.shape, -np.inf), np.zeros(here.shape)
    ways[:, 0], least[:, 0], most[:, 0] = 1.0, 0.0, 0.0
    for j in range(1, v):
        arriving = edges[:, :j, j]  # (n, j)
        open_ = arriving > 0
        ways[:, j] = (arriving * ways[:, :j]).sum(axis=1)
        passed = (arriving[:, None, :] @ total[:, :j])[:, 0]
        total[:, j] = passed + here[:, j] * ways[:, j, None]
        most[:, j] = np.where(open_[:, :, None], most[:, :j], -np.inf).max(axis=1) + here[:, j]
        least[:, j] = np.where(open_, least[:, :j], np.inf).min(axis=1) + here[:, j, -1]
    some = ways[:, -1] > 0
    columns = {"ways": ways[:, -1], "fewest operators on a way": np.where(some, least[:, -1], 0.0)}
    for o, name in enumerate([*names, "operators"]):
        columns[f"most {name} on a way"] = np.where(some, most[:, -1, o], 0.0)
        columns[f"mean {name} on a way"] = total[:, -1, o] / np.maximum(ways[:, -1], 1.0)
    return columns
