"""How the nodes of a cell may be joined: every pair by an operation, or each to two before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.core import Decision, SearchSpace
from nas.core.graphs import live_part
from searchspaces.cells.operations import Kind, Operation, operation

Ends = tuple[int, int]
"""An edge: its source and its target, both numbered from the cell's inputs on."""


@dataclass(frozen=True)
class Slot:
    """A place for an operation in the cells of `n` candidates.

    Attributes:
        source: `(n,)` node it reads.
        target: node it adds to.
        option: `(n,)` index of its operation.
        live: `(n,)` whether it lies on a way from an input to the output.
    """

    source: NDArray[np.int64]
    target: int
    option: NDArray[np.int16]
    live: NDArray[np.bool_]


class Topology(ABC):
    """A cell's graph; nodes are its inputs, then those that sum edges from nodes before them.

    Attributes:
        n_inputs: nodes that are inputs.
        n_nodes: nodes in all.
        names: of the operations an edge may have.
        operations: in the same order.
    """

    n_inputs: int
    n_nodes: int
    names: tuple[str, ...]
    operations: tuple[Operation, ...]

    @property
    def edges(self) -> list[Ends]:
        """Every edge a cell may have, by target."""
        return [(i, j) for j in range(self.n_inputs, self.n_nodes) for i in range(j)]

    @property
    @abstractmethod
    def outputs(self) -> range:
        """Nodes whose concatenation a cell gives."""

    @abstractmethod
    def decisions(self, owner: str) -> list[Decision]:
        """Of one cell, their names prefixed by `owner`."""

    @abstractmethod
    def weights(self, mix: Mapping[str, Tensor], owner: str) -> list[Tensor]:
        """`(operations,)` by edge, of the weights by decision; one-hot ones make a cell."""

    @abstractmethod
    def slots(self, space: SearchSpace, columns: NDArray[np.int16], owner: str) -> list[Slot]:
        """Of the cells of `(d, n)` columns, by target."""

    def connected(
        self, space: SearchSpace, columns: NDArray[np.int16], owner: str
    ) -> NDArray[np.bool_]:
        """`(n,)` whether the cells of `(d, n)` columns have a way from an input to the output."""
        live = [slot.live for slot in self.slots(space, columns, owner)]
        return np.asarray(np.logical_or.reduce(live))


class Dense(Topology):
    """Every pair of nodes is joined by one operation; the last node is the output.

    Reference: Dong and Yang 2020 (NAS-Bench-201), section 2.1.
    """

    def __init__(self, n_nodes: int, names: Sequence[str]) -> None:
        self.n_inputs, self.n_nodes = 1, n_nodes
        self.names, self.operations = tuple(names), tuple(operation(name) for name in names)

    @property
    def outputs(self) -> range:
        """The last node."""
        return range(self.n_nodes - 1, self.n_nodes)

    def decisions(self, owner: str) -> list[Decision]:
        """An operation for every edge `i>j`."""
        return [Decision(f"{owner}{i}>{j}", self.names, ordered=False) for i, j in self.edges]

    def weights(self, mix: Mapping[str, Tensor], owner: str) -> list[Tensor]:
        """Those of the edges' decisions."""
        return [mix[f"{owner}{i}>{j}"] for i, j in self.edges]

    def slots(self, space: SearchSpace, columns: NDArray[np.int16], owner: str) -> list[Slot]:
        """One for every edge; those that lead nowhere, or come from nowhere, are not live."""
        n = columns.shape[1]
        chosen = {(i, j): columns[space.column[f"{owner}{i}>{j}"]] for i, j in self.edges}
        carries = np.array([o.kind is not Kind.NONE for o in self.operations])
        adjacency = np.zeros((n, self.n_nodes, self.n_nodes), dtype=np.bool_)
        for (i, j), option in chosen.items():
            adjacency[:, i, j] = carries[option]
        live = live_part(adjacency) > 0
        return [Slot(np.full(n, i), j, option, live[:, i, j]) for (i, j), option in chosen.items()]


class Pairs(Topology):
    """Two inputs; every other node reads two distinct ones before it; all others are the output.

    Which two is one decision (unordered), what is done to each another one.

    Reference: Liu et al. 2019 (DARTS), section 2.1 and 2.4; a decision for the pair replaces its
    rule that the two strongest edges stay, so that a distribution over decisions is one over cells.
    """

    def __init__(self, n_nodes: int, names: Sequence[str]) -> None:
        self.n_inputs, self.n_nodes = 2, 2 + n_nodes
        self.names, self.operations = tuple(names), tuple(operation(name) for name in names)

    @property
    def outputs(self) -> range:
        """All nodes but the inputs."""
        return range(2, self.n_nodes)

    def decisions(self, owner: str) -> list[Decision]:
        """Of every node `inputs`, and the operations `left` (of the earlier one) and `right`."""
        found = []
        for j in self.outputs:
            pairs = tuple(f"{a},{b}" for a, b in combinations(range(j), 2))
            found.append(Decision(f"{_node(owner, j)}.inputs", pairs, ordered=False))
            for side in ("left", "right"):
                name = f"{_node(owner, j)}.{side}"
                found.append(Decision(name, self.names, ordered=False))
        return found

    def weights(self, mix: Mapping[str, Tensor], owner: str) -> list[Tensor]:
        """Of an edge i>j, the sum over the pairs that hold i of the pair's times the side's."""
        found = []
        for i, j in self.edges:
            pair, left, right = (
                mix[f"{_node(owner, j)}.{name}"] for name in ("inputs", "left", "right")
            )
            parts = [
                share * (left if i == a else right)
                for share, (a, b) in zip(pair, combinations(range(j), 2), strict=True)
                if i in (a, b)
            ]
            found.append(torch.stack(parts).sum(0))
        return found

    def slots(self, space: SearchSpace, columns: NDArray[np.int16], owner: str) -> list[Slot]:
        """Two for every node; all are live."""
        found = []
        live = np.ones(columns.shape[1], dtype=np.bool_)
        for j in self.outputs:
            pairs = np.array(list(combinations(range(j), 2)))
            sources = pairs[columns[space.column[f"{_node(owner, j)}.inputs"]]].T
            for source, side in zip(sources, ("left", "right"), strict=True):
                option = columns[space.column[f"{_node(owner, j)}.{side}"]]
                found.append(Slot(source, j, option, live))
        return found


def cell_space(topology: Topology, owners: Sequence[str] = ("",)) -> SearchSpace:
    """The decisions of cells whose names start so: `cell1.`, or nothing for one that all repeat."""
    return SearchSpace(tuple(d for owner in owners for d in topology.decisions(owner)))


def _node(owner: str, j: int) -> str:
    return f"{owner}node{j - 1}"
