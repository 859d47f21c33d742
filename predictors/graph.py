"""A graph network on cells: the order in which vertices are written down does not matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import ConflictError, Prediction, Predictor
from predictors._nets import descend, new_linear
from predictors._targets import MIN_ROWS, NOT_FITTED, TargetScale

CHUNK = 4096
N_LAYERS = 3
USUAL = 3
"""Vertices whose sum starts out as large as other features are."""
FAR = 4.0
"""Deviations from the mean at which other features are clipped."""


@dataclass
class GraphEnsemble(Predictor):
    """Graph convolutional nets, all targets at once; their disagreement is the uncertainty.

    Good for comparisons with published graph networks, and as a second opinion, where candidates
    are cells. The default, a Gaussian process that sees numbers of the same graphs, ranks a little
    better at a tenth of the time: from 50 and 200 cells Kendall's tau is 0.76 and 0.86 on
    NAS-Bench-201 and 0.69 and 0.75 on NAS-Bench-101; here, with rank-warped targets, 0.76 and 0.84,
    0.68 and 0.74 (`tests/benchmarks/predictor_tau.py --draws 4`).

    Three layers average the messages along and against the edges, each with weights of its own
    over the adjacency with loops and rows that sum to 1; existing vertices are added up, joined by
    the other features, and one hidden layer follows. Departures from the paper, which has width
    144 and small batches: narrower, few full-batch steps, no first-stage classifier, sums instead
    of means of vertices, other features beside the graph, and an ensemble that differs by initial
    weights alone. With fewer than 4 rows it predicts their mean.

    Attributes:
        n_vertices: v of every graph.
        n_labels: l that a vertex may have. Features are `v * v` numbers of edges from vertex to
            vertex, row by row, `v * l` one-hot labels, vertex by vertex (all 0 where there is
            none), and any others.
        n_members: nets.
        width: of all layers.
        n_steps: full-batch AdamW steps.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        seed: of the weights.

    Reference: Wen et al. 2020 (Neural Predictor for Neural Architecture Search).
    """

    n_vertices: int
    n_labels: int
    n_members: int = 3
    width: int = 32
    n_steps: int = 100
    learning_rate: float = 2e-2
    weight_decay: float = 0.3
    seed: int = 0
    _net: _GraphNet | None = field(default=None, init=False, repr=False)
    _targets: TargetScale | None = field(default=None, init=False, repr=False)
    _others: TargetScale | None = field(default=None, init=False, repr=False)

    def fit(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> Self:
        """Learn from `x (n, d)` and `y (n, m)`, forgetting earlier fits. Returns self."""
        self._targets, self._net = TargetScale.of(y), None
        if len(y) < MIN_ROWS:
            return self
        self._others = TargetScale.of(self._parts(x)[2].astype(np.float64))
        inputs = self._inputs(x)
        targets = torch.from_numpy(self._targets.standard(y).astype(np.float32))
        generator = torch.Generator().manual_seed(self.seed)
        n_others = inputs[-1].shape[1]
        self._net = _GraphNet(self, n_others, y.shape[1], generator)
        every = targets.expand(self.n_members, *targets.shape)
        descend(self._net, inputs, every, self.n_steps, self.learning_rate, self.weight_decay)
        return self

    @torch.no_grad()
    def predict(self, x: NDArray[np.float32]) -> Prediction:
        """Predict for `x (n, d)`.

        Raises:
            ConflictError: not fitted.
        """
        if self._targets is None:
            raise ConflictError(NOT_FITTED)
        if self._net is None or not len(x):
            return self._targets.uninformed(len(x))
        pieces = [self._inputs(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)]
        votes = torch.cat([self._net(*piece) for piece in pieces], dim=1)  # (members, n, m)
        found = votes.double().numpy()
        return self._targets.restored(found.mean(axis=0), found.std(axis=0))

    def _parts(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Edges `(n, v, v)`, labels `(n, v, l)` and other features `(n, o)`."""
        v = self.n_vertices
        edges, labels, others = np.split(x, [v * v, v * (v + self.n_labels)], axis=1)
        return edges.reshape(-1, v, v), labels.reshape(-1, v, self.n_labels), others

    def _inputs(self, x: NDArray[np.float32]) -> tuple[Tensor, ...]:
        """Normalised adjacency along and against the edges, labels, and scaled other features."""
        edges, labels, others = self._parts(x)
        assert self._others is not None
        scaled = np.clip(self._others.standard(others.astype(np.float64)), -FAR, FAR)
        adjacency = torch.from_numpy(edges)
        along, against = _normalised(adjacency), _normalised(adjacency.transpose(1, 2))
        return along, against, torch.from_numpy(labels), torch.from_numpy(scaled).float()


class _Layers(nn.Module):
    """A linear layer of every member: `(members, k, n_in)` to `(members, k, n_out)`."""

    def __init__(self, n_members: int, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        layers = [new_linear(n_in, n_out, generator) for _ in range(n_members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.T for layer in layers]).detach())
        self.bias = nn.Parameter(torch.zeros(n_members, 1, n_out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class _GraphNet(nn.Module):
    """All members side by side: convolutions in both directions, sum over vertices, two layers."""

    def __init__(
        self, settings: GraphEnsemble, n_others: int, n_out: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        members, width = settings.n_members, settings.width
        sizes = (settings.n_labels, *[width] * (N_LAYERS - 1))
        self.convolutions = nn.ModuleList(
            _Layers(members, size, 2 * width, generator) for size in sizes
        )
        self.hidden = _Layers(members, width + n_others, width, generator)
        self.head = _Layers(members, width, n_out, generator)

    def forward(self, along: Tensor, against: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        n, v, _ = labels.shape
        members = len(self.head.bias)
        exists = labels.amax(dim=2, keepdim=True)  # (n, v, 1)
        states = labels.expand(members, *labels.shape)
        for convolution in self.convolutions:
            sent = convolution(states.reshape(members, n * v, -1))
            there, back = sent.view(members, n, v, -1).chunk(2, dim=3)
            states = torch.relu(along @ there) + torch.relu(against @ back)
            states = states * exists / 2  # (members, n, v, width)
        pooled = states.sum(dim=2) / USUAL
        joined = torch.cat([pooled, others.expand(members, *others.shape)], dim=2)
        found: Tensor = self.head(torch.relu(self.hidden(joined)))
        return found


def _normalised(adjacency: Tensor) -> Tensor:
    """`(n, v, v)` with loops, rows summing to 1."""
    looped = adjacency + torch.eye(adjacency.shape[1])
    return looped / looped.sum(dim=2, keepdim=True)
