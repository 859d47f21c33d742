"""Cells whose edges mix operations: NAS-Bench-201's, and smaller or larger ones of the kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.core import Decision, SearchSpace, UnknownNameError
from searchspaces.layers import Sparsity
from searchspaces.relaxed._base import Mix, RelaxedNetwork, batch_norm

NOISE = 1.0
"""Standard deviation of the operation that gives noise (R-DARTS, space S4)."""


@dataclass(frozen=True)
class _Operation:
    """Makes the operation for a number of channels; None for one that gives zeros."""

    make: Callable[[int], nn.Module] | None
    has_weights: bool


def _conv(kernel: int, sparsity: Sparsity | None = None) -> Callable[[int], nn.Module]:
    def make(width: int) -> nn.Module:
        conv = _SparseConv(width, kernel, sparsity)
        return nn.Sequential(nn.ReLU(), conv, batch_norm(width))

    return make


class _SparseConv(nn.Conv2d):
    """A convolution of which only the largest weights count, where there is a pattern of zeros."""

    def __init__(self, width: int, kernel: int, sparsity: Sparsity | None) -> None:
        super().__init__(width, width, kernel, padding=kernel // 2, bias=False)
        self.sparsity = sparsity

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        weight = self.weight if self.sparsity is None else self.sparsity.apply(self.weight)
        return F.conv2d(x, weight, padding=self.padding)


def _separable(width: int) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            batch_norm(width),
        ]
    return nn.Sequential(*layers)


def _average(width: int) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), batch_norm(width))


def _skip(width: int) -> nn.Module:
    return nn.Identity()


class _Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NOISE * torch.randn_like(x)


def _noise(width: int) -> nn.Module:
    return _Noise()


KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
"""Sizes of the convolutions that may be sparse."""

OPERATIONS: Mapping[str, _Operation] = {
    "none": _Operation(None, has_weights=False),
    "skip_connect": _Operation(_skip, has_weights=False),
    **{name: _Operation(_conv(kernel), has_weights=True) for name, kernel in KERNELS.items()},
    "sep_conv_3x3": _Operation(_separable, has_weights=True),
    "avg_pool_3x3": _Operation(_average, has_weights=False),
    "noise": _Operation(_noise, has_weights=False),
}


def operation(name: str) -> _Operation:
    """The operation of that name; `nor_conv_3x3/0.95` has that pattern of zeros (DASS).

    The architecture's gradient then sees the masked convolution, in every step.

    Raises:
        UnknownNameError: no such operation, or none that can be sparse.
        InvalidInputError: a pattern of zeros that cannot be.
    """
    plain, slash, sparsity = name.partition("/")
    if plain not in OPERATIONS or (slash and plain not in KERNELS):
        raise UnknownNameError("operation", name, [*OPERATIONS, *(f"{k}/0.95" for k in KERNELS)])
    if slash:
        return _Operation(_conv(KERNELS[plain], Sparsity.parse(sparsity)), has_weights=True)
    return OPERATIONS[plain]


def cell_space(n_nodes: int, operations: Sequence[str], n_cells: int | None = None) -> SearchSpace:
    """One operation for every edge `i>j` between `n_nodes` nodes, of one cell that all repeat.

    Operations are those of `OPERATIONS`; convolutions may be sparse, `nor_conv_3x3/0.95`.
    With `n_cells`, every cell has decisions of its own, `cell1.0>1` …: unshared cells (D-DARTS).

    Raises:
        UnknownNameError: no such operation.
        InvalidInputError: a pattern of zeros that cannot be.
    """
    edges = [f"{i}>{j}" for j in range(1, n_nodes) for i in range(j)]
    cells = [""] if n_cells is None else [f"cell{c}." for c in range(1, n_cells + 1)]
    names = [cell + edge for cell in cells for edge in edges]
    for name in operations:
        operation(name)
    return SearchSpace(tuple(Decision(n, tuple(operations), ordered=False) for n in names))


class MixedEdge(nn.Module):
    """The weighted sum of what every operation makes of a node (DARTS, equation 2)."""

    def __init__(self, operations: Sequence[str], width: int) -> None:
        super().__init__()
        makers = [operation(name).make for name in operations]
        self.operations = nn.ModuleList(
            nn.Identity() if make is None else make(width) for make in makers
        )
        self._computed = [i for i, make in enumerate(makers) if make is not None]

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape; `weights (options,)`."""
        asked = weights.detach() != 0
        parts = [weights[i] * self.operations[i](x) for i in self._computed if asked[i]]
        return torch.stack(parts).sum(0) if parts else 0.0 * x


class MixedCell(nn.Module):
    """Nodes that each sum the edges from all before it; gives the last node."""

    def __init__(self, edges: Sequence[tuple[int, int]], options: Sequence[str], width: int):
        super().__init__()
        self._ends = tuple(edges)
        self.edges = nn.ModuleList(MixedEdge(options, width) for _ in edges)

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """`(B, C, H, W)` to the same shape; one weight vector per edge."""
        nodes: dict[int, Tensor] = {0: x}
        for (source, target), edge, weights in zip(self._ends, self.edges, mix, strict=True):
            added = edge(nodes[source], weights)
            nodes[target] = nodes[target] + added if target in nodes else added
        return nodes[max(nodes)]


class Reduction(nn.Module):
    """A residual block that halves the map and doubles the channels, as between NAS-Bench-201's."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        width = 2 * n_in
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(n_in, width, 3, 2, 1, bias=False),
            batch_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            batch_norm(width),
        )
        pool = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(n_in, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 2C, H/2, W/2)`, rounded up."""
        out: Tensor = self.body(x) + self.shortcut(x)
        return out


class RelaxedCells(RelaxedNetwork):
    """Stem, three stages of mixed cells with reductions between them, classifier.

    Args:
        space: of `cell_space`, or any whose decisions are named alike.
        input_shape: `(channels, height, width)`.
        n_classes: logits.
        width: channels of the first stage (NAS-Bench-201: 16).
        cells: per stage (NAS-Bench-201: 5); unshared decisions must be of `3 * cells` cells.
        stem_stride: 2 halves large images before the first cell.

    Reference: Dong and Yang 2020 (NAS-Bench-201), figure 1; Liu et al. 2019 (DARTS).
    """

    def __init__(
        self,
        space: SearchSpace,
        input_shape: tuple[int, int, int],
        n_classes: int,
        width: int = 16,
        cells: int = 1,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.space = space
        options = [str(o) for o in space.decisions[0].options]
        names = [name.rpartition(".") for name in space.names]
        owners = list(dict.fromkeys(cell for cell, _, _ in names))
        n_edges = len(names) // len(owners)
        self._shared = len(owners) == 1
        self._n_edges = n_edges
        ends = [(int(e.split(">")[0]), int(e.split(">")[1])) for _, _, e in names[:n_edges]]
        stem = nn.Conv2d(input_shape[0], width, 3, stem_stride, 1, bias=False)
        self.stem = nn.Sequential(stem, batch_norm(width))
        self.layers = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.layers.append(Reduction(width))
                width *= 2
            self.layers.extend(MixedCell(ends, options, width) for _ in range(cells))
        self.norm = batch_norm(width)
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits."""
        x = self.stem(x)
        start = 0
        for layer in self.layers:
            if not isinstance(layer, MixedCell):
                x = layer(x)
                continue
            x = layer(x, mix[start : start + self._n_edges])
            start += 0 if self._shared else self._n_edges
        logits: Tensor = self.classifier(torch.relu(self.norm(x)).mean((2, 3)))
        return logits

    @property
    def parameter_free(self) -> list[list[bool]]:
        """By edge and operation, whether it is one without weights."""
        return [
            [not operation(str(o)).has_weights for o in d.options] for d in self.space.decisions
        ]
