"""Cells: directed acyclic graphs whose isomorphic forms are one candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.core.decision import Decision
from nas.core.errors import InvalidInputError, UnknownNameError

Adjacency = NDArray[np.bool_]
"""`(n, v, v)`, `[k, i, j]` whether cell k has an edge from vertex i to j; upper triangular."""

DEAD = -1
CHUNK = 8192
"""Cells worked on at once: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Cell:
    """Which decisions of a space are the edges and the operators of a graph.

    Vertex 0 is the input, the last one the output; those between have an operator each.

    Attributes:
        operators: decision per inner vertex, in topological order.
        edges: decision with options (False, True) per pair of vertices, row by row of the upper
            triangle.

    Raises:
        InvalidInputError: the number of edges does not fit.
    """

    operators: tuple[str, ...]
    edges: tuple[str, ...]

    def __post_init__(self) -> None:
        n = self.n_vertices * (self.n_vertices - 1) // 2
        if len(self.edges) != n:
            raise InvalidInputError(
                "cell.edges", len(self.edges), f"{n} edges for {self.n_vertices} vertices"
            )

    @property
    def n_vertices(self) -> int:
        """Input, inner vertices, output."""
        return len(self.operators) + 2

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Vertices of each edge, in the order of `edges`."""
        return list(combinations(range(self.n_vertices), 2))

    def adjacency(self, edges: NDArray[np.int16]) -> Adjacency:
        """`(n, v, v)` adjacency of `(e, n)` columns of edge options."""
        matrix = np.zeros((edges.shape[1], self.n_vertices, self.n_vertices), dtype=np.bool_)
        for (i, j), column in zip(self.pairs, edges, strict=True):
            matrix[:, i, j] = column == 1
        return matrix

    def edge_columns(self, adjacency: Adjacency) -> NDArray[np.int16]:
        """`(e, n)` columns of edge options of an `(n, v, v)` adjacency."""
        return np.stack([adjacency[:, i, j] for i, j in self.pairs]).astype(np.int16)

    def check(self, decisions: Mapping[str, Decision]) -> None:
        """Raise if these decisions, by name, cannot be the cell's.

        Raises:
            InvalidInputError: one is missing, has a condition, or is an edge without False and
                True for its options.
        """
        for name in (*self.operators, *self.edges):
            if name not in decisions:
                raise UnknownNameError("space.cell", name, decisions)
            if decisions[name].condition is not None:
                raise InvalidInputError("space.cell", name, "decisions without a condition")
        for name in self.edges:
            if decisions[name].options != (False, True):
                raise InvalidInputError(f"decision {name}", decisions[name].options, "False, True")

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal cell."""
        return {"operators": list(self.operators), "edges": list(self.edges)}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: the object has not this form.
        """
        try:
            return cls(tuple(body["operators"]), tuple(body["edges"]))
        except (KeyError, TypeError) as error:
            raise InvalidInputError("cell", body, "an object {operators, edges}") from error


def canonical_cells(
    adjacency: Adjacency, operators: NDArray[np.int16]
) -> tuple[Adjacency, NDArray[np.int16]]:
    """The same cells without what does not count, isomorphic ones equal.

    Vertices that lie on no path from input to output lose their edges and their operator (-1) and
    stand last; the others are ordered by depth and then by colours refined from neighbour to
    neighbour, equal colours being told apart one at a time.

    Args:
        adjacency: `(n, v, v)`.
        operators: `(n, v - 2)` option indices.

    Returns:
        adjacency and operators of the same shapes.

    Reference: Ying et al. 2019 (NAS-Bench-101), section 2.2 (pruning, isomorphism by iterated
    hashes of neighbourhoods); Weisfeiler and Leman 1968 (colour refinement).
    """
    pieces = [
        _canonical(adjacency[i : i + CHUNK], operators[i : i + CHUNK])
        for i in range(0, max(len(adjacency), 1), CHUNK)
    ]
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def _canonical(
    adjacency: Adjacency, operators: NDArray[np.int16]
) -> tuple[Adjacency, NDArray[np.int16]]:
    live = live_vertices(adjacency)
    adjacency = adjacency & live[:, :, None] & live[:, None, :]
    operators = np.where(live[:, 1:-1], operators, DEAD).astype(np.int16)
    depth = _depths(adjacency)
    depth[~live] = adjacency.shape[1]
    order = _order(adjacency, operators, depth)
    return relabelled(adjacency, operators, order)


def relabelled(
    adjacency: Adjacency, operators: NDArray[np.int16], order: NDArray[np.int64]
) -> tuple[Adjacency, NDArray[np.int16]]:
    """Cells with inner vertex `order[k, i]` (`(n, v - 2)`, 0 the first inner one) at place i."""
    n, v = adjacency.shape[:2]
    whole = np.concatenate(
        [np.zeros((n, 1), np.int64), order + 1, np.full((n, 1), v - 1)], axis=1, dtype=np.int64
    )
    rows = np.arange(n)[:, None, None]
    return adjacency[rows, whole[:, :, None], whole[:, None, :]], np.take_along_axis(
        operators, order, axis=1
    )


def loosened(
    adjacency: Adjacency, operators: NDArray[np.int16], rng: np.random.Generator
) -> tuple[Adjacency, NDArray[np.int16]]:
    """Canonical cells with their unused vertices anywhere, each fed by a random earlier vertex.

    They are the same candidates, and one more edge brings a vertex to life between any others.
    """
    dead = operators == DEAD
    n, inner = dead.shape
    in_order = np.sort(rng.random((n, inner)), axis=1)
    order = np.argsort(np.where(dead, rng.random((n, inner)), in_order), axis=1)
    adjacency, operators = relabelled(adjacency, operators, order)
    for k in range(inner):
        fed = np.flatnonzero(operators[:, k] == DEAD)
        adjacency[fed, rng.integers(k + 1, size=len(fed)), k + 1] = True
    return adjacency, operators


def live_vertices(adjacency: Adjacency) -> NDArray[np.bool_]:
    """`(n, v)` whether a vertex lies on a path from input to output.

    Input and output count as alive always.
    """
    n, v = adjacency.shape[:2]
    reached, reaching = np.zeros((2, n, v), dtype=np.bool_)
    reached[:, 0] = reaching[:, -1] = True
    for j in range(1, v):
        reached[:, j] = (reached[:, :j] & adjacency[:, :j, j]).any(axis=1)
    for i in reversed(range(v - 1)):
        reaching[:, i] = (reaching[:, i + 1 :] & adjacency[:, i, i + 1 :]).any(axis=1)
    live = reached & reaching
    live[:, [0, -1]] = True
    return np.asarray(live)


# -------------------------------------------------------------------- inside


def _depths(adjacency: Adjacency) -> NDArray[np.int64]:
    """`(n, v)` edges on the longest path from a vertex without predecessors."""
    n, v = adjacency.shape[:2]
    depth = np.zeros((n, v), dtype=np.int64)
    for j in range(1, v):
        depth[:, j] = ((depth[:, :j] + 1) * adjacency[:, :j, j]).max(axis=1)
    return depth


def _order(
    adjacency: Adjacency, operators: NDArray[np.int16], depth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`(n, v - 2)` inner vertices in canonical order."""
    colours = _refined(adjacency, _first_colours(operators, depth))
    inner_depth, inner = depth[:, 1:-1], colours[:, 1:-1]
    order = np.lexsort((inner, inner_depth), axis=1)
    tied = np.flatnonzero(_has_ties(inner, operators))
    if len(tied):
        order[tied] = _individualised(adjacency[tied], colours[tied], inner_depth[tied])
    return order


def _individualised(
    adjacency: Adjacency, colours: NDArray[np.uint64], depth: NDArray[np.int64]
) -> NDArray[np.int64]:
    """As `_order`, taking the first vertex, giving it a colour of its own, refining, and so on."""
    n, v = colours.shape
    colours, place = colours.copy(), np.full((n, v - 2), v, dtype=np.int64)
    for step in range(v - 2):
        inner = colours[:, 1:-1]
        first = np.lexsort((inner, depth, place < v), axis=1)[:, 0]
        place[np.arange(n), first] = step
        colours[np.arange(n), first + 1] = _mixed(np.full(n, 1000 + step, dtype=np.uint64))
        colours = _refined(adjacency, colours)
    return np.argsort(place, axis=1)


def _first_colours(operators: NDArray[np.int16], depth: NDArray[np.int64]) -> NDArray[np.uint64]:
    n, v = depth.shape
    labels = np.zeros((n, v), dtype=np.uint64)
    labels[:, 1:-1] = operators + 3
    labels[:, 0], labels[:, -1] = 0, 1
    return _mixed(labels * np.uint64(64) + depth.astype(np.uint64))


def _refined(adjacency: Adjacency, colours: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Colours that tell apart what the neighbourhoods up to `v` steps away tell apart."""
    v = colours.shape[1]
    edges = adjacency.astype(np.uint64)
    for _ in range(v - 1):
        before, after = _mixed(colours + np.uint64(1)), _mixed(colours + np.uint64(2))
        total = colours * np.uint64(3)
        for i in range(v):
            total += edges[:, i, :] * before[:, i, None] + edges[:, :, i] * after[:, i, None]
        colours = _mixed(total)
    return colours


def _has_ties(colours: NDArray[np.uint64], operators: NDArray[np.int16]) -> NDArray[np.bool_]:
    """`(n,)` whether two live inner vertices have the same colour."""
    n, inner = colours.shape
    tied = np.zeros(n, dtype=np.bool_)
    for i, j in combinations(range(inner), 2):
        tied |= (colours[:, i] == colours[:, j]) & (operators[:, i] != DEAD)
    return tied


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each word scrambled (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)), dtype=np.uint64)
