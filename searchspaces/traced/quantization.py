"""Zeros and bits of a traced network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from searchspaces.compression.quantization import NewQuantizers, StageBits, fold_norms, place_conv
from searchspaces.layers import FLOAT_BITS, ConvUnit, LinearUnit, Rounding, Sparsity
from searchspaces.traced.graph import Mark, TracedNetwork


def sparsify_graph(network: TracedNetwork, patterns: Sequence[Sparsity | None]) -> None:
    """Give the ungrouped convolutions within the network zeros of their stage's pattern."""
    for node in network.body.graph.nodes:
        unit = network.unit(node)
        if isinstance(unit, ConvUnit) and unit.conv.groups == 1:
            mark = network.marks[str(node.target)]
            unit.sparsity = None if mark.is_edge else patterns[mark.stage]


def quantize_graph(network: TracedNetwork, bits: Sequence[StageBits]) -> None:
    """Fold batch norms and attach quantizers, observing, in place; `bits` has one per stage.

    A layer whose input was rounded to other bits than its own reads it rounded once more, so that
    runtimes find an integer kernel for it.
    """
    fold_norms(network)
    placement = NewQuantizers()
    again: dict[tuple[fx.Node, int], fx.Node] = {}
    for node in list(network.body.graph.nodes):
        unit = network.unit(node)
        if unit is None:
            continue
        given = bits_of(network.marks[str(node.target)], bits)
        if isinstance(unit, ConvUnit):
            place_conv(unit, given, placement)
        elif isinstance(unit, LinearUnit):
            placement.weight(unit, given)
        else:
            placement.activation(unit, "output_quantizer", given)
        if not isinstance(unit, Rounding):
            _read_rounded(network, node, given, again)
    network.body.recompile()


def bits_of(mark: Mark, bits: Sequence[StageBits]) -> StageBits:
    """Of what is marked; `bits` has one per stage."""
    return bits[mark.stage].at_edge() if mark.is_edge else bits[mark.stage]


def _read_rounded(
    network: TracedNetwork,
    node: fx.Node,
    bits: StageBits,
    again: dict[tuple[fx.Node, int], fx.Node],
) -> None:
    """Let a layer read its input at its own activation bits."""
    source, width = node.all_input_nodes[0], bits.activation
    if width == FLOAT_BITS or _provided(network, source) == width:
        return
    if (source, width) not in again:
        name = f"entering_{source.name}_{width}"
        rounding = Rounding()
        NewQuantizers().activation(rounding, "output_quantizer", bits)
        network.body.add_module(name, rounding)
        with network.body.graph.inserting_before(node):
            again[source, width] = network.body.graph.call_module(name, (source,))
    node.replace_input_with(source, again[source, width])


def _provided(network: TracedNetwork, node: fx.Node) -> int:
    unit = network.unit(node)
    if isinstance(unit, (ConvUnit, Rounding)) and unit.output_quantizer is not None:
        return unit.output_quantizer.bits
    return FLOAT_BITS
