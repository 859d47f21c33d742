"""Costs of a traced network: what its layers and tensors are, then any bits for many candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import fx

from nas.core import InvalidInputError
from searchspaces.costs import BitColumns, Column, SparsityColumn, Tally
from searchspaces.layers import FLOAT_BITS, ConvUnit, LinearUnit, Rounding
from searchspaces.traced.graph import Mark, TracedNetwork


@dataclass(frozen=True)
class Layer:
    """A weighted layer: weights per output, outputs, positions, and whether it may have zeros."""

    n_inputs: int
    n_out: int
    pixels: int
    mark: Mark
    may_be_sparse: bool


@dataclass(frozen=True)
class Held:
    """A tensor: how many values, and whose bits; None for float."""

    n_values: int
    mark: Mark | None


@dataclass(frozen=True)
class Layout:
    """All that the costs of a network depend on, but its bits and zeros.

    Attributes:
        layers: in the order they run.
        moments: the tensors held while each of them runs.
    """

    layers: tuple[Layer, ...]
    moments: tuple[tuple[Held, ...], ...]

    @classmethod
    def of(cls, network: TracedNetwork) -> Layout:
        """The layout of a network that is neither pruned nor quantized.

        Raises:
            InvalidInputError: a linear layer reads anything but `(batch, features)`.
        """
        nodes = [node for node in network.body.graph.nodes if node.op != "output"]
        by_name = {node.name: node for node in nodes}
        ends = _last_readers(network, nodes)
        layers, moments, held = [], [], dict[str, Held]()
        for i, node in enumerate(nodes):
            name = network.holders.get(node.name, node.name)
            if name in ends:
                held[name] = _held(network, by_name[name])
            unit = network.unit(node)
            if isinstance(unit, (ConvUnit, LinearUnit)):
                layers.append(_layer(network, node, unit))
                moments.append(tuple(held.values()))
            held = {name: h for name, h in held.items() if ends[name] > i}
        return cls(tuple(layers), tuple(moments))

    def tally(
        self, n: int, bits: Sequence[BitColumns], sparsity: Sequence[SparsityColumn | None]
    ) -> Tally:
        """Costs of `n` candidates that differ in bits and zeros; both by stage.

        The peak is over layers: every tensor that is held while one runs, at the bits it was made
        with.
        """
        tally = Tally(n)
        for layer, moment in zip(self.layers, self.moments, strict=True):
            pattern = sparsity[layer.mark.stage] if layer.may_be_sparse else None
            tally.layer(
                layer.n_inputs, layer.n_out, 1, layer.pixels, _bits(bits, layer.mark), 1, pattern
            )
            tally.alive_bits(sum((_size(bits, held) for held in moment), np.zeros(n)))
        return tally


def _bits(bits: Sequence[BitColumns], mark: Mark) -> BitColumns:
    return bits[mark.stage].at_edge() if mark.is_edge else bits[mark.stage]


def _size(bits: Sequence[BitColumns], held: Held) -> Column:
    """`(n,)` bits that a tensor takes."""
    width = FLOAT_BITS if held.mark is None else _bits(bits, held.mark).activation
    return held.n_values * np.asarray(width, dtype=np.float64)


def _layer(network: TracedNetwork, node: fx.Node, unit: ConvUnit | LinearUnit) -> Layer:
    shape, mark = network.shapes[node.name], network.marks[str(node.target)]
    if isinstance(unit, LinearUnit):
        if len(shape) != 2:
            expected = f"linear layers that read (batch, features); {node.target} gives {shape}"
            raise InvalidInputError("space", "linear layer", expected)
        return Layer(unit.linear.in_features, unit.linear.out_features, 1, mark, False)
    weight = unit.conv.weight
    sparse = unit.conv.groups == 1 and not mark.is_edge
    return Layer(weight[0].numel(), len(weight), math.prod(shape[2:]), mark, sparse)


def _held(network: TracedNetwork, node: fx.Node) -> Held:
    rounded = isinstance(network.unit(node), (ConvUnit, Rounding))
    mark = network.marks[str(node.target)] if rounded else None
    return Held(math.prod(network.shapes[node.name]), mark)


def _last_readers(network: TracedNetwork, nodes: Sequence[fx.Node]) -> dict[str, int]:
    """Place of the last node that reads each tensor, by its holder; its own where nobody does."""
    places = {node: i for i, node in enumerate(nodes)}
    ends: dict[str, int] = {}
    for node in nodes:
        if node.name in network.shapes:
            name = network.holders.get(node.name, node.name)
            read = [places[reader] for reader in node.users if reader in places]
            ends[name] = max(ends.get(name, 0), places[node], *read)
    return ends
