"""What a predictor may know of a cell: numbers that isomorphic cells share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Genotypes
from nas.core.cell import live_vertices
from nas.core.errors import InvalidInputError
from nas.core.space import SearchSpace

Edges = NDArray[np.float64]
"""`(n, v, v)`, `[k, i, j]` how many edges lead from vertex i to a later vertex j of graph k."""

Columns = dict[str, NDArray[np.float64]]


def cell_features(space: SearchSpace, rows: Genotypes) -> Columns:
    """`(n,)` columns of `graph_features` by name for `(n, d)` rows of a space with a cell.

    Vertices on no path from input to output do not count. Operators of the same text are the same,
    whichever vertices may choose them.

    Raises:
        InvalidInputError: the space has no cell.
    """
    cell = space.cell
    if cell is None:
        raise InvalidInputError("space.cell", None, "a space whose candidates are cells")
    edges = live_part(cell.adjacency(rows[:, [space.column[e] for e in cell.edges]].T))
    places = [space.column[name] for name in cell.operators]
    texts = [[str(o) for o in space.decisions[i].options] for i in places]
    names = list(dict.fromkeys(text for options in texts for text in options))
    kinds = [
        np.array([*map(names.index, options), -1])[rows[:, i]]
        for i, options in zip(places, texts, strict=True)
    ]
    operators = np.stack(kinds, axis=1) if kinds else np.empty((len(rows), 0), dtype=np.int64)
    return graph_features(edges, operators, names)


def graph_features(edges: Edges, operators: NDArray[np.int64], names: Sequence[str]) -> Columns:
    """`(n,)` structural features by name of directed acyclic graphs.

    - How many vertices have each operator, and how many edges join each ordered pair of operators,
      input and output included: the features of the Weisfeiler-Lehman edge kernel at height 0.
      Greater heights make a feature of each whole neighbourhood, and most are seen only once.
    - Vertices, edges, and those at input and output.
    - Ways from input to output: how many; the operators along the longest, the shortest and the
      mean one; of each operator the most and the mean number along a way.

    All are sums and extremes over the graph, so the order of vertices does not matter. Different
    graphs may have the same features.

    Args:
        edges: `(n, v, v)` counts. Vertex 0 is the input, the last one the output; every edge lies
            on a way between them.
        operators: `(n, v - 2)` index into `names`; of vertices without an edge it does not count.
        names: of the operators.

    Reference: Shervashidze et al. 2011 (Weisfeiler-Lehman graph kernels), and Ru et al. 2021
    (NAS-BOWL) for these on cells; White et al. 2021 (BANANAS) for ways from input to output.
    """
    labels = _labels(edges, operators, len(names))
    counts = labels[:, :, 2:].sum(axis=1)  # (n, operators)
    columns = {f"n {name}": counts[:, o] for o, name in enumerate(names)}
    columns |= _joints(edges, labels, names)
    columns["vertices"] = counts.sum(axis=1)
    columns["edges"] = edges.sum(axis=(1, 2))
    columns["outputs of input"] = edges[:, 0].sum(axis=1)
    columns["inputs of output"] = edges[:, :, -1].sum(axis=1)
    return columns | _along_ways(edges, labels[:, :, 2:], names)


def live_part(adjacency: NDArray[np.bool_]) -> Edges:
    """The edges of `(n, v, v)` adjacencies that lie on a way from input to output."""
    live = live_vertices(adjacency)
    return (adjacency & live[:, :, None] & live[:, None, :]).astype(np.float64)


def without(edges: Edges, passing: NDArray[np.bool_]) -> Edges:
    """Graphs without the `(n, v)` inner vertices that pass on what they get.

    Each way through such a vertex becomes an edge between its neighbours.
    """
    edges = edges.copy()
    for k in range(1, edges.shape[1] - 1):
        rows = np.flatnonzero(passing[:, k])
        some = edges[rows]
        some += some[:, :, k, None] * some[:, None, k, :]
        some[:, :, k] = some[:, k, :] = 0.0
        edges[rows] = some
    return edges


# -------------------------------------------------------------------- inside


def _labels(edges: Edges, operators: NDArray[np.int64], n_names: int) -> NDArray[np.float64]:
    """`(n, v, 2 + names)` one-hot: input, output, then operators; all 0 without an edge."""
    n, v = edges.shape[:2]
    labels = np.zeros((n, v, 2 + n_names))
    labels[:, 0, 0] = labels[:, -1, 1] = 1.0
    used = edges[:, :, 1:-1].any(axis=1)
    for o in range(n_names):
        labels[:, 1:-1, 2 + o] = (operators == o) & used
    return labels


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
