"""A graph network on cells: the order in which vertices are written down does not matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import ConflictError, InvalidInputError, Prediction, Predictor, SearchSpace
from predictors._nets import descend, new_linear
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale
from predictors.encoders import feature_names

ON = 0.5
CHUNK = 4096


@dataclass(frozen=True)
class GraphLayout:
    """Where flat features say which graph a row is; other columns are not read.

    A bit is on above 0.5. A vertex whose operator columns are all off does not exist in that row,
    nor do its edges.

    Attributes:
        n_operators: an inner vertex chooses from.
        operators: per vertex the first of its `n_operators` one-hot columns, or None for one that
            always exists and has a role of its own (input, output).
        edges: source, target and column of the adjacency bit, or None where the edge always is.

    Raises:
        InvalidInputError: an edge of a vertex that there is not.
    """

    n_operators: int
    operators: tuple[int | None, ...]
    edges: tuple[tuple[int, int, int | None], ...]

    def __post_init__(self) -> None:
        for edge in self.edges:
            if not all(0 <= vertex < self.n_vertices for vertex in edge[:2]):
                raise InvalidInputError("layout.edges", edge, f"vertices 0 to {self.n_vertices}")

    @property
    def n_vertices(self) -> int:
        """Vertices of the largest graph."""
        return len(self.operators)

    @property
    def n_labels(self) -> int:
        """Operators, and one more per vertex with a role of its own."""
        return self.n_operators + self.operators.count(None)

    @classmethod
    def of_cells(cls, space: SearchSpace) -> Self:
        """The layout of `encode`'s features of a space with a cell.

        Raises:
            InvalidInputError: the space has no cell, or its vertices have different operators, or
                ordered ones.
        """
        cell = space.cell
        if cell is None:
            raise InvalidInputError("space.cell", None, "a space whose candidates are cells")
        inner = [space.decisions[space.column[name]] for name in cell.operators]
        options = inner[0].options
        if any(d.ordered or d.options != options for d in inner):
            raise InvalidInputError(
                "space.cell", cell.operators, "the same unordered options at each vertex"
            )
        column = {name: i for i, name in enumerate(feature_names(space))}
        first = [column[f"{d.name}={options[0]}"] for d in inner]
        bits = [column.get(f"{name}=True", column.get(name)) for name in cell.edges]
        edges = [(i, j, bit) for (i, j), bit in zip(cell.pairs, bits, strict=True)]
        return cls(len(options), (None, *first, None), tuple(edges))

    @classmethod
    def on_edges(cls, n_nodes: int, n_operators: int) -> Self:
        """The layout of cells whose operators stand on the edges between `n_nodes` nodes.

        Each edge becomes a vertex, after those whose target is its source. Columns are the edges'
        one-hots by rising target, then rising source (NAS-Bench-201: 4 nodes, 5 operators).
        """
        pairs = [(source, target) for target in range(n_nodes) for source in range(target)]
        last = len(pairs) + 1
        edges: list[tuple[int, int, int | None]] = []
        for i, (source, target) in enumerate(pairs, 1):
            if source == 0:
                edges.append((0, i, None))
            if target == n_nodes - 1:
                edges.append((i, last, None))
            edges += [(i, j, None) for j, after in enumerate(pairs, 1) if after[0] == target]
        columns = range(0, len(pairs) * n_operators, n_operators)
        return cls(n_operators, (None, *columns, None), tuple(edges))

    def read(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Adjacency `(n, v, v)`, `[k, source, target]`, and one-hot labels `(n, v, n_labels)`."""
        labels = np.zeros((len(x), self.n_vertices, self.n_labels), dtype=np.float32)
        role = self.n_operators
        for vertex, first in enumerate(self.operators):
            if first is None:
                labels[:, vertex, role] = 1.0
                role += 1
            else:
                labels[:, vertex, : self.n_operators] = x[:, first : first + self.n_operators] > ON
        adjacency = np.zeros((len(x), self.n_vertices, self.n_vertices), dtype=np.float32)
        for source, target, column in self.edges:
            adjacency[:, source, target] = 1.0 if column is None else x[:, column] > ON
        exists = np.asarray(labels.any(axis=2))
        return adjacency * exists[:, :, None] * exists[:, None, :], labels


@dataclass
class GraphEnsemble(Predictor):
    """Graph convolutional nets, all targets at once; their disagreement is the uncertainty.

    Three layers average the messages along and against the edges, each with weights of its own
    over the adjacency with loops and rows that sum to 1; existing vertices are averaged and one
    hidden layer follows. Departures from the paper, which has width 144 and small batches: width
    64, few full-batch steps, no first-stage classifier, and an ensemble that differs by initial
    weights alone. With fewer than 4 rows it predicts their mean.

    Attributes:
        layout: how the features spell graphs.
        n_members: nets.
        width: of all layers.
        n_steps: full-batch AdamW steps.
        learning_rate: of AdamW.
        seed: of the weights.

    Reference: Wen et al. 2020 (Neural Predictor for Neural Architecture Search).
    """

    layout: GraphLayout
    n_members: int = 3
    width: int = 64
    n_steps: int = 200
    learning_rate: float = 1e-2
    seed: int = 0
    _members: list[_GraphNet] = field(default_factory=list, init=False, repr=False)
    _scale: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._scale, self._members = TargetScale.of(y), []
        if len(y) < MIN_ROWS:
            return self
        inputs = self._inputs(x)
        targets = torch.from_numpy(self._scale.standard(y).astype(np.float32))
        for member in range(self.n_members):
            generator = torch.Generator().manual_seed(self.seed * 1000 + member)
            net = _GraphNet(self.layout.n_labels, self.width, y.shape[1], generator)
            descend(net, inputs, targets, self.n_steps, self.learning_rate)
            self._members.append(net)
        return self

    @torch.no_grad()
    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._scale is None:
            raise ConflictError(NOT_FITTED)
        if not self._members or not len(x):
            return self._scale.uninformed(len(x))
        parts = []
        for start in range(0, len(x), CHUNK):
            inputs = self._inputs(x[start : start + CHUNK])
            parts.append(torch.stack([net(*inputs) for net in self._members]))
        votes = torch.cat(parts, dim=1).double().numpy()  # (members, n, m)
        return self._scale.restored(votes.mean(axis=0), votes.std(axis=0))

    def _inputs(self, x: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised adjacency against and along the edges, and labels."""
        adjacency, labels = (torch.from_numpy(part) for part in self.layout.read(x))
        return _normalised(adjacency), _normalised(adjacency.transpose(1, 2)), labels


class _GraphNet(nn.Module):
    """Three graph convolutions in both directions, mean over vertices, two linear layers."""

    def __init__(self, n_labels: int, width: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (n_labels, width, width)
        self.along = nn.ModuleList(new_linear(size, width, generator) for size in sizes)
        self.against = nn.ModuleList(new_linear(size, width, generator) for size in sizes)
        self.hidden = new_linear(width, width, generator)
        self.head = new_linear(width, n_out, generator)

    def forward(self, forward: Tensor, backward: Tensor, labels: Tensor) -> Tensor:
        exists = labels.amax(dim=2, keepdim=True)  # (n, v, 1)
        states = labels
        for along, against in zip(self.along, self.against, strict=True):
            states = torch.relu(along(forward @ states)) + torch.relu(against(backward @ states))
            states = states * exists / 2  # (n, v, width)
        pooled = states.sum(dim=1) / exists.sum(dim=1).clamp(min=1)
        return self.head(torch.relu(self.hidden(pooled)))


def _normalised(adjacency: Tensor) -> Tensor:
    """`(n, v, v)` with loops, rows summing to 1."""
    looped = adjacency + torch.eye(adjacency.shape[1])
    return looped / looped.sum(dim=2, keepdim=True)
