"""Networks of cells whose edges mix operations, and whose stages mix bits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from nas.core import SearchSpace
from searchspaces.cells.operations import OPERATIONS, Kind, Operation
from searchspaces.cells.skeleton import N_STAGES, Site, Skeleton
from searchspaces.cells.topology import Topology
from searchspaces.layers import DENSE
from searchspaces.relaxed._base import Mix, RelaxedNetwork
from searchspaces.relaxed.layers import MixedBits, MixedConv, rounded

NOISE = 1.0
"""Standard deviation of the operation that gives noise (R-DARTS, space S4)."""


class RelaxedCells(RelaxedNetwork):
    """Stem, three stages of mixed cells with reductions between them, classifier.

    With one-hot mixtures it computes what a candidate's network of the same skeleton does, but for
    learned steps and the norms' statistics and scales. Stem and classifier stay float: they never
    have fewer than 8 bits.

    Args:
        space: decisions of the skeleton's cells, and of its stages' bits where they have any.
        skeleton: where cells stand.
        noise: weights get noise as wide as a step instead of being rounded.

    Attributes:
        skeleton: as given.

    Reference: Liu et al. 2019 (DARTS), equation 2; Cai and Vasconcelos 2020 (EdMIPS), section 3.3,
    for bits within one set of weights.
    """

    def __init__(self, space: SearchSpace, skeleton: Skeleton, noise: bool = False) -> None:
        super().__init__()
        self.space = space
        self.skeleton, self._noise = skeleton, noise
        width = skeleton.width
        self.stem = MixedConv(skeleton.input_shape[0], width, (3,), skeleton.stem_stride)
        self.cells = nn.ModuleList(
            MixedReduction(site) if site.owner is None else MixedCell(site, skeleton.topology)
            for site in skeleton.sites
        )
        self.classifier = nn.Linear(skeleton.n_out, skeleton.n_classes)

    def forward(self, x: Tensor, mix: Mix) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits."""
        skeleton = self.skeleton
        chosen = dict(zip(self.space.names, mix, strict=True))
        weights = {owner: skeleton.topology.weights(chosen, owner) for owner in skeleton.owners}
        bits = [
            MixedBits.of(self.space, chosen, f"stage{i}", self._noise)
            for i in range(1, N_STAGES + 1)
        ]
        tensors = [self.stem(x)]
        for site, cell in zip(skeleton.sites, self.cells, strict=True):
            inputs = [tensors[i] for i in site.inputs]
            owned = [] if site.owner is None else weights[site.owner]
            tensors.append(cell(inputs, owned, bits[site.stage]))
        logits: Tensor = self.classifier(torch.relu(tensors[-1]).mean((2, 3)))
        return logits

    @property
    def parameter_free(self) -> list[list[bool]]:
        """By decision and option, whether it is an operation without weights."""
        topology = self.skeleton.topology
        flags = [not operation.has_weights for operation in topology.operations]
        return [
            flags if decision.options == topology.names else [False] * len(decision.options)
            for decision in self.space.decisions
        ]


class MixedCell(nn.Module):
    """Nodes that each sum the mixed edges from all before it.

    Attributes:
        ends: of each edge.
    """

    def __init__(self, site: Site, topology: Topology) -> None:
        super().__init__()
        self._stride, self._outputs = site.stride, topology.outputs
        self._targets = range(topology.n_inputs, topology.n_nodes)
        self.ends = topology.edges
        strides = (site.stride_in, 1)[: topology.n_inputs]
        self.projections = nn.ModuleList(
            MixedConv(n_in, site.width, stride=stride)
            for n_in, stride in zip(site.n_in, strides, strict=True)
            if topology.n_inputs > 1
        )
        self.edges = nn.ModuleList(
            MixedEdge(topology.operations, site.width, site.stride if i < topology.n_inputs else 1)
            for i, _ in topology.edges
        )

    def forward(
        self, inputs: Sequence[Tensor], weights: Sequence[Tensor], bits: MixedBits | None
    ) -> Tensor:
        """`(B, n_in, H, W)` each to `(B, width times outputs, H / stride, W / stride)`.

        Args:
            inputs: images.
            weights: `(operations,)` by edge.
            bits: of the stage.
        """
        nodes = [MixedNode(x, bits) for x in inputs]
        for i, projection in enumerate(self.projections):
            x = rounded(projection(nodes[i].rectified, bits), bits)
            nodes[i] = MixedNode(x, bits)
        empty = 0.0 * nodes[-1].value[:, :, :: self._stride, :: self._stride]
        for target in self._targets:
            edges = zip(self.ends, self.edges, weights, strict=True)
            parts = [edge(nodes[i], w, bits) for (i, j), edge, w in edges if j == target]
            computed = [part for part in parts if part is not None]
            total = torch.stack(computed).sum(0) if computed else empty
            nodes.append(MixedNode(rounded(total, bits), bits))
        outputs = [nodes[i].value for i in self._outputs]
        return rounded(torch.cat(outputs, 1), bits) if len(outputs) > 1 else outputs[0]


class MixedNode:
    """What a node holds, `(B, C, H, W)`, and its rectified copy, made when it is first read."""

    def __init__(self, value: Tensor, bits: MixedBits | None) -> None:
        self.value = value
        self._bits = bits

    @cached_property
    def rectified(self) -> Tensor:
        """`(B, C, H, W)` without negative values."""
        return rounded(torch.relu(self.value), self._bits)


class MixedEdge(nn.Module):
    """The weighted sum of what every operation makes of a node (DARTS, equation 2)."""

    def __init__(self, operations: Sequence[Operation], width: int, stride: int = 1) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            _mixed(operation.with_stride(stride), width, stride) for operation in operations
        )
        self._computed = [i for i, o in enumerate(operations) if o.kind is not Kind.NONE]

    def forward(self, node: MixedNode, weights: Tensor, bits: MixedBits | None) -> Tensor | None:
        """`(B, C, H / stride, W / stride)`, or None where all weights `(options,)` are 0."""
        asked = weights.detach() != 0
        parts = [weights[i] * self.operations[i](node, bits) for i in self._computed if asked[i]]
        return torch.stack(parts).sum(0) if parts else None


class MixedReduction(nn.Module):
    """The fixed residual block between stages (`searchspaces.cells.network.Reduction`)."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        n_in, width, stride = site.n_in[0], site.width, site.stride
        average = OPERATIONS["avg_pool_3x3"].layer(stride)
        self.pool = average if stride > 1 else nn.Identity()
        self.shortcut = MixedConv(n_in, width, norm=False)
        self.first = MixedConv(n_in, width, (3,), stride)
        self.second = MixedConv(width, width, (3,))

    def forward(
        self, inputs: Sequence[Tensor], weights: Sequence[Tensor], bits: MixedBits | None
    ) -> Tensor:
        """`(B, C, H, W)` to `(B, 2C, H / stride, W / stride)`, rounded up; takes no weights."""
        (x,) = inputs
        carried = rounded(self.shortcut(rounded(self.pool(x), bits), bits), bits)
        y = self.first(MixedNode(x, bits).rectified, bits)
        y = self.second(MixedNode(y, bits).rectified, bits)
        return rounded(rounded(y, bits) + carried, bits)


class _Convolutions(nn.Module):
    """An operation's convolutions; only the largest weights count where it is sparse (DASS)."""

    def __init__(self, operation: Operation, width: int, stride: int) -> None:
        super().__init__()
        self._rectified = [c.rectified for c in operation.convolutions]
        self._sparse = operation.sparsity != DENSE
        self.units = nn.ModuleList(
            MixedConv(
                width,
                width,
                (c.kernel,),
                1 if i else stride,
                c.depthwise,
                (operation.sparsity,),
                norm=not c.depthwise,
                dilation=c.dilation,
            )
            for i, c in enumerate(operation.convolutions)
        )

    def forward(self, node: MixedNode, bits: MixedBits | None) -> Tensor:
        """What the convolutions make of the rectified node."""
        x = node.rectified
        pattern = x.new_ones(1) if self._sparse else None
        for unit, rectified in zip(self.units, self._rectified, strict=True):
            x = unit(x, bits, sparsity=pattern)
            x = rounded(torch.relu(x) if rectified else x, bits)
        return x


class _Pool(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, node: MixedNode, bits: MixedBits | None) -> Tensor:
        return rounded(self.layer(node.value), bits)


class _Skip(nn.Module):
    def forward(self, node: MixedNode, bits: MixedBits | None) -> Tensor:
        return node.value


class _Noise(nn.Module):
    def forward(self, node: MixedNode, bits: MixedBits | None) -> Tensor:
        return NOISE * torch.randn_like(node.value)


def _mixed(operation: Operation, width: int, stride: int) -> nn.Module:
    match operation.kind:
        case Kind.CONVOLUTION:
            return _Convolutions(operation, width, stride)
        case Kind.AVERAGE | Kind.MAXIMUM:
            return _Pool(operation.layer(stride))
        case Kind.SKIP | Kind.NONE:
            return _Skip()
        case Kind.NOISE:
            return _Noise()
