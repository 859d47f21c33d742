"""Candidates as graphs: what structural features and graph networks both read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core.candidate import Genotypes
from nas.core.cell import live_vertices
from nas.core.errors import InvalidInputError
from nas.core.space import SearchSpace

Edges = NDArray[np.float64]
"""`(n, v, v)`, `[k, i, j]` how many edges lead from vertex i to a later vertex j of graph k."""


@dataclass(frozen=True)
class Graphs:
    """Directed acyclic graphs with an operator on each inner vertex.

    Attributes:
        edges: `(n, v, v)` counts. Vertex 0 is the input, the last one the output; every edge lies
            on a way between them.
        operators: `(n, v - 2)` index into `names`; of vertices without an edge it does not count.
        names: of the operators.
    """

    edges: Edges
    operators: NDArray[np.int64]
    names: Sequence[str]

    @property
    def labels(self) -> NDArray[np.float64]:
        """`(n, v, 2 + names)` one-hot: input, output, then operators; all 0 without an edge."""
        n, v = self.edges.shape[:2]
        labels = np.zeros((n, v, 2 + len(self.names)))
        labels[:, 0, 0] = labels[:, -1, 1] = 1.0
        used = self.edges[:, :, 1:-1].any(axis=1)
        for o in range(len(self.names)):
            labels[:, 1:-1, 2 + o] = (self.operators == o) & used
        return labels


Graphing = Callable[[Genotypes], Graphs]
"""Graphs of `(n, d)` rows, of the same size and operators whatever the rows."""


def cell_graphs(space: SearchSpace, rows: Genotypes) -> Graphs:
    """The cells of `(n, d)` rows of a space with a cell.

    Vertices on no path from input to output have no edge. Operators of the same text are the same,
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
    return Graphs(edges, operators, names)


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
