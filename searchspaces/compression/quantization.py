"""Bit widths per stage: the decisions, and the handler that puts quantizers into a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nas.core import Condition, Decision, SearchSpace
from searchspaces.layers import ActivationQuantizer, ConvUnit, LinearUnit, WeightQuantizer
from searchspaces.network import Bottleneck, MobileNet, Stage

FLOAT_BITS = 32
EDGE_BITS = 8
"""First and last layer never have fewer bits than this when they are quantized."""


@dataclass(frozen=True)
class StageBits:
    """Bits of one stage; 32 means float."""

    weight: int
    activation: int
    per_channel: bool

    def at_edge(self) -> StageBits:
        """The bits of a first or last layer beside this stage."""
        return StageBits(
            max(self.weight, EDGE_BITS), max(self.activation, EDGE_BITS), self.per_channel
        )


def quantization_space(
    n_stages: int, weight_bits: Sequence[int], activation_bits: Sequence[int]
) -> SearchSpace:
    """Per stage `weight_bits` and, where weights are quantized, `activation_bits`, `granularity`.

    Activations of float weights stay float: no runtime computes such a mixture.
    """
    decisions: list[Decision] = []
    for i in range(1, n_stages + 1):
        name = f"stage{i}.weight_bits"
        decisions.append(Decision(name, tuple(weight_bits)))
        quantized = tuple(b for b in weight_bits if b < FLOAT_BITS)
        if quantized:
            where = Condition(name, quantized)
            options = ("per_tensor", "per_channel")
            decisions += [
                Decision(f"stage{i}.activation_bits", tuple(activation_bits), where),
                Decision(f"stage{i}.granularity", options, where, ordered=False),
            ]
    return SearchSpace(tuple(decisions))


def quantize_network(network: MobileNet, bits: Sequence[StageBits]) -> None:
    """Fold batch norms and attach quantizers, observing, in place; `bits` has one per stage."""
    for module in network.modules():
        if isinstance(module, ConvUnit):
            module.fold_norm()
    first, last = bits[0].at_edge(), bits[-1]
    network.input_quantizer = _activation(first)
    _quantize_conv(network.stem, first)
    before = first.activation
    for stage, stage_bits in zip(network.stages, bits, strict=True):
        assert isinstance(stage, Stage)
        if stage_bits.activation != before:
            stage.input_quantizer = _activation(stage_bits)
        before = stage_bits.activation
        for block in stage.blocks:
            assert isinstance(block, Bottleneck)
            _quantize_block(block, stage_bits)
    _quantize_conv(network.head, last)
    network.pool_quantizer = _activation(last.at_edge())
    network.classifier.weight_quantizer = _weight(last.at_edge())


def bake_weights(network: nn.Module) -> None:
    """Replace every weight by its quantized value and freeze activation grids, in place.

    What is left computes the same without weight quantizers.
    """
    for module in network.modules():
        layer = _layer_of(module)
        if layer is not None and isinstance(module, (ConvUnit, LinearUnit)):
            if module.weight_quantizer is not None:
                layer.weight.data = module.weight_quantizer(layer.weight.data)
                module.weight_quantizer = None
        elif isinstance(module, ActivationQuantizer):
            module.freeze()


def _layer_of(module: nn.Module) -> nn.Conv2d | nn.Linear | None:
    match module:
        case ConvUnit():
            return module.conv
        case LinearUnit():
            return module.linear
        case _:
            return None


def _weight(bits: StageBits) -> WeightQuantizer | None:
    return WeightQuantizer(bits.weight, bits.per_channel) if bits.weight < FLOAT_BITS else None


def _activation(bits: StageBits) -> ActivationQuantizer | None:
    return ActivationQuantizer(bits.activation) if bits.activation < FLOAT_BITS else None


def _quantize_conv(unit: ConvUnit, bits: StageBits) -> None:
    unit.weight_quantizer = _weight(bits)
    unit.output_quantizer = _activation(bits)


def _quantize_block(block: Bottleneck, bits: StageBits) -> None:
    for unit in (block.expand, block.depthwise, block.project):
        _quantize_conv(unit, bits)
    if block.attention is not None:
        _quantize_conv(block.attention.squeeze, bits)
        _quantize_conv(block.attention.excite, bits)
        block.attention.pool_quantizer = _activation(bits)
        block.attention.output_quantizer = _activation(bits)
    if block.residual:
        block.output_quantizer = _activation(bits)
