"""The plain network of a candidate: units that fold, quantize and export, joined as its cells say.

Every convolution reads a quantizer's output and writes to one, so that runtimes have an integer
kernel for it: rectified nodes, sums, pools and concatenations are rounded each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from searchspaces.cells.operations import OPERATIONS, Convolution, Kind, Operation
from searchspaces.cells.skeleton import Site, Skeleton
from searchspaces.cells.topology import Ends
from searchspaces.compression.quantization import (
    NewQuantizers,
    StageBits,
    fold_norms,
    place_conv,
)
from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit, Rounded, Sparsity

Graph = Mapping[Ends, Operation]
"""The edges of one cell, by target."""


class Weightless(Rounded):
    """A layer without weights, its output rounded."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of `(B, C, H, W)`."""
        return self.rounded(self.layer(x))


class Node(Rounded):
    """The sum of a node's edges."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Tensors of one shape to another of it."""
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return self.rounded(total)


class Join(Rounded):
    """The concatenation of a cell's nodes."""

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """`(B, C, H, W)` each to `(B, n C, H, W)`."""
        return self.rounded(torch.cat(list(parts), 1))


class Projection(nn.Module):
    """A layer without weights, then a 1x1 convolution to another width."""

    def __init__(self, layer: nn.Module, unit: ConvUnit) -> None:
        super().__init__()
        self.entry = Weightless(layer)
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n_in, H, W)` to `(B, width, H / stride, W / stride)`, rounded up."""
        out: Tensor = self.unit(self.entry(x))
        return out


class Edge(nn.Module):
    """One operation between nodes.

    Attributes:
        rectified: whether it reads the rectified node.
        sparsity: the pattern of zeros that pruning gives its convolutions.
    """

    def __init__(self, operation: Operation, width: int, stride: int) -> None:
        super().__init__()
        operation = operation.with_stride(stride)
        self.rectified = operation.has_weights
        self.sparsity = Sparsity.parse(operation.sparsity)
        pools = operation.kind in (Kind.AVERAGE, Kind.MAXIMUM)
        self.pool = Weightless(operation.layer(stride)) if pools else None
        self.units = nn.ModuleList(
            _unit(convolution, width, 1 if i else stride)
            for i, convolution in enumerate(operation.convolutions)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C, H / stride, W / stride)`, rounded up."""
        if self.pool is not None:
            x = self.pool(x)
        for unit in self.units:
            x = unit(x)
        return x


class Cell(nn.Module):
    """The live part of a cell; with two inputs, each is brought to the cell's width first.

    Attributes:
        stage: whose bits it has.
        inputs: tensors it reads, see `Site`.
        ends: of each edge.
    """

    def __init__(self, site: Site, graph: Graph, outputs: Sequence[int]) -> None:
        super().__init__()
        self.stage, self.inputs = site.stage, site.inputs
        self.ends, self._outputs = list(graph), list(outputs)
        n_inputs = len(site.inputs)
        strides = (site.stride_in, 1)[:n_inputs]
        self.projections = nn.ModuleList(
            Projection(nn.ReLU(), ConvUnit(n_in, site.width, 1, stride))
            for n_in, stride in zip(site.n_in, strides, strict=True)
            if n_inputs > 1
        )
        self.edges = nn.ModuleList(
            Edge(operation, site.width, site.stride if source < n_inputs else 1)
            for (source, _), operation in graph.items()
        )
        read = {s for (s, _), edge in zip(graph, self._edges(), strict=True) if edge.rectified}
        self.rectifiers = nn.ModuleDict({str(i): Weightless(nn.ReLU()) for i in sorted(read)})
        summed = sorted({target for _, target in graph} | set(outputs))
        self.nodes = nn.ModuleDict({str(j): Node() for j in summed})
        self.join = Join() if len(self._outputs) > 1 else None

    def forward(self, *inputs: Tensor) -> Tensor:
        """`(B, n_in, H, W)` each to `(B, width times outputs, H / stride, W / stride)`."""
        held = dict(enumerate(inputs))
        for i, projection in enumerate(self.projections):
            held[i] = projection(inputs[i])
        rectified: dict[int, Tensor] = {}
        for name, node in self.nodes.items():
            parts = []
            for (source, target), edge in zip(self.ends, self._edges(), strict=True):
                if target != int(name):
                    continue
                if edge.rectified and source not in rectified:
                    rectified[source] = self.rectifiers[str(source)](held[source])
                parts.append(edge((rectified if edge.rectified else held)[source]))
            held[int(name)] = node(parts or [0.0 * held[0]])
        outputs = [held[i] for i in self._outputs]
        out: Tensor = outputs[0] if self.join is None else self.join(outputs)
        return out

    def _edges(self) -> list[Edge]:
        return [edge for edge in self.edges if isinstance(edge, Edge)]


class Reduction(nn.Module):
    """A residual block that halves the map and doubles the channels, as between NAS-Bench-201's.

    Where the image is small the map stays. The shortcut's pool is 3x3, so that odd maps round up.
    """

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.stage, self.inputs = site.stage, site.inputs
        n_in, width, stride = site.n_in[0], site.width, site.stride
        average = OPERATIONS["avg_pool_3x3"].layer(stride)
        self.shortcut = Projection(
            average if stride > 1 else nn.Identity(), ConvUnit(n_in, width, norm=False)
        )
        self.rectifier = Weightless(nn.ReLU())
        self.first = ConvUnit(n_in, width, 3, stride, activation=nn.ReLU())
        self.second = ConvUnit(width, width, 3)
        self.node = Node()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, 2C, H / stride, W / stride)`, rounded up."""
        carried = self.shortcut(x)
        out: Tensor = self.node([self.second(self.first(self.rectifier(x))), carried])
        return out


class CellNetwork(nn.Module):
    """Stem, cells, rectified average, classifier.

    Args:
        skeleton: where cells stand.
        graphs: the edges of cells, by owner.
    """

    def __init__(self, skeleton: Skeleton, graphs: Mapping[str, Graph]) -> None:
        super().__init__()
        width, outputs = skeleton.width, skeleton.topology.outputs
        self.input_quantizer: ActivationQuantizer | None = None
        self.stem = ConvUnit(skeleton.input_shape[0], width, 3, skeleton.stem_stride)
        self.cells = nn.ModuleList(
            Reduction(site) if site.owner is None else Cell(site, graphs[site.owner], outputs)
            for site in skeleton.sites
        )
        self.relu = nn.ReLU()
        self.pool_quantizer: ActivationQuantizer | None = None
        self.classifier = LinearUnit(skeleton.n_out, skeleton.n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` images to `(B, n_classes)` logits."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        tensors = [self.stem(x)]
        for cell in self.cells:
            assert isinstance(cell, (Cell, Reduction))
            tensors.append(cell(*[tensors[i] for i in cell.inputs]))
        x = self.relu(tensors[-1]).mean((2, 3))  # (B, channels)
        if self.pool_quantizer is not None:
            x = self.pool_quantizer(x)
        logits: Tensor = self.classifier(x)
        return logits


def sparsify_edges(network: CellNetwork) -> None:
    """Set the patterns of zeros of sparse operations, in place; weights stay."""
    for module in network.modules():
        if isinstance(module, Edge):
            for unit in module.units:
                assert isinstance(unit, ConvUnit)
                unit.sparsity = module.sparsity


def quantize_cells(network: CellNetwork, bits: Sequence[StageBits]) -> None:
    """Fold batch norms and attach quantizers, observing, in place; `bits` has one per stage."""
    fold_norms(network)
    placement = NewQuantizers()
    first, last = bits[0].at_edge(), bits[-1].at_edge()
    placement.activation(network, "input_quantizer", first)
    place_conv(network.stem, first, placement)
    for cell in network.cells:
        assert isinstance(cell, (Cell, Reduction))
        for module in cell.modules():
            match module:
                case ConvUnit():
                    place_conv(module, bits[cell.stage], placement)
                case Rounded():
                    placement.activation(module, "output_quantizer", bits[cell.stage])
                case _:
                    pass
    placement.activation(network, "pool_quantizer", last)
    placement.weight(network.classifier, last)


def _unit(convolution: Convolution, width: int, stride: int) -> ConvUnit:
    return ConvUnit(
        width,
        width,
        convolution.kernel,
        stride,
        groups=width if convolution.depthwise else 1,
        activation=nn.ReLU() if convolution.rectified else None,
        norm=not convolution.depthwise,
        dilation=convolution.dilation,
    )
