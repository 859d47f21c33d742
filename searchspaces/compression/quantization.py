"""Bit widths per stage: the decisions, and the handler that puts quantizers into a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, Self

from torch import nn

from nas.core import Candidate, Condition, Decision, SearchSpace
from searchspaces.layers import (
    FLOAT_BITS,
    ActivationQuantizer,
    ConvUnit,
    LinearUnit,
    WeightGrid,
    WeightQuantizer,
)
from searchspaces.network import Bottleneck, MobileNet, Stage

EDGE_BITS = 8
"""First and last layer never have fewer bits than this when they are quantized."""


@dataclass(frozen=True)
class StageBits:
    """Bits of one stage; 32 means float."""

    weight: int
    activation: int
    per_channel: bool
    symmetric: bool = True

    @classmethod
    def of(cls, candidate: Candidate, stage: str) -> Self:
        """What `candidate` chose for `stage` in a `quantization_space`."""
        values = candidate.values
        return cls(
            weight=int(values[f"{stage}.weight_bits"]),
            activation=int(values.get(f"{stage}.activation_bits", FLOAT_BITS)),
            per_channel=values.get(f"{stage}.granularity") == "per_channel",
            symmetric=bool(values.get(f"{stage}.symmetric", True)),
        )

    @property
    def grid(self) -> WeightGrid | None:
        """Where weights lie; None for float ones."""
        if self.weight == FLOAT_BITS:
            return None
        return WeightGrid(self.weight, self.per_channel, self.symmetric)

    def at_edge(self) -> StageBits:
        """The bits of a first or last layer beside this stage."""
        return replace(
            self,
            weight=max(self.weight, EDGE_BITS),
            activation=max(self.activation, EDGE_BITS),
        )


FLOAT = StageBits(FLOAT_BITS, FLOAT_BITS, per_channel=False)


def quantization_space(
    n_stages: int,
    weight_bits: Sequence[int],
    activation_bits: Sequence[int],
    symmetric: Sequence[bool] = (True,),
) -> SearchSpace:
    """Per stage `weight_bits` and, where weights are quantized, `activation_bits`, `granularity`.

    Activations of float weights stay float: no runtime computes such a mixture. Whether weights
    are `symmetric` is a decision where steps are per tensor, and only if there is a choice.
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
            if tuple(symmetric) != (True,):
                per_tensor = Condition(f"stage{i}.granularity", ("per_tensor",))
                decisions.append(Decision(f"stage{i}.symmetric", tuple(symmetric), per_tensor))
    return SearchSpace(tuple(decisions))


class Placement(Protocol):
    """How bits reach the layers of a network: by new quantizers, or by settings of elastic ones."""

    def weight(self, unit: nn.Module, bits: StageBits) -> None:
        """The weight of `unit` has `bits.weight` bits."""

    def activation(self, owner: nn.Module, name: str, bits: StageBits) -> None:
        """The quantizer `name` of `owner` has `bits.activation` bits."""


def place_bits(network: MobileNet[Any], bits: Sequence[StageBits], placement: Placement) -> None:
    """Tell `placement` the bits of every weight and activation in use; `bits` has one per stage."""
    first, last = bits[0].at_edge(), bits[-1]
    placement.activation(network, "input_quantizer", first)
    place_conv(network.stem, first, placement)
    before = first.activation
    for stage, stage_bits in zip(network.stages, bits, strict=True):
        assert isinstance(stage, Stage)
        entering = stage_bits if stage_bits.activation != before else FLOAT
        placement.activation(stage, "input_quantizer", entering)
        before = stage_bits.activation
        for block in islice(stage.blocks, stage.depth):
            assert isinstance(block, Bottleneck)
            _place_block(block, stage_bits, placement)
    place_conv(network.head, last, placement)
    placement.activation(network, "pool_quantizer", last.at_edge())
    placement.weight(network.classifier, last.at_edge())


def quantize_network(network: MobileNet[ConvUnit], bits: Sequence[StageBits]) -> None:
    """Fold batch norms and attach quantizers, observing, in place; `bits` has one per stage."""
    fold_norms(network)
    place_bits(network, bits, NewQuantizers())


def fold_norms(network: nn.Module) -> None:
    """Move every batch norm into its convolution, in place."""
    for module in network.modules():
        if isinstance(module, ConvUnit):
            module.fold_norm()


def bake_weights(network: nn.Module) -> None:
    """Replace every weight by its quantized value and freeze activation grids, in place.

    What is left computes the same without weight quantizers.
    """
    for module in network.modules():
        layer = _layer_of(module)
        if layer is not None and isinstance(module, (ConvUnit, LinearUnit)):
            if isinstance(module, ConvUnit):
                module.write_zeros()
                module.sparsity = None
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


class NewQuantizers:
    """Attaches plain quantizers, observing."""

    def weight(self, unit: nn.Module, bits: StageBits) -> None:
        """The weight of `unit` has `bits.weight` bits."""
        assert isinstance(unit, (ConvUnit, LinearUnit))
        grid, layer = bits.grid, _layer_of(unit)
        unit.weight_quantizer = None if grid is None else WeightQuantizer(grid)
        if unit.weight_quantizer is not None and layer is not None:
            unit.weight_quantizer.fit(layer.weight)

    def activation(self, owner: nn.Module, name: str, bits: StageBits) -> None:
        """The quantizer `name` of `owner` has `bits.activation` bits."""
        width = bits.activation
        setattr(owner, name, ActivationQuantizer(width) if width < FLOAT_BITS else None)


def place_conv(unit: nn.Module, bits: StageBits, placement: Placement) -> None:
    """Weight and output of a convolution have these bits."""
    placement.weight(unit, bits)
    placement.activation(unit, "output_quantizer", bits)


def _place_block(block: Bottleneck[Any], bits: StageBits, placement: Placement) -> None:
    for unit in (block.expand, block.depthwise, block.project):
        place_conv(unit, bits, placement)
    if block.attention is not None and block.attends:
        place_conv(block.attention.squeeze, bits, placement)
        place_conv(block.attention.excite, bits, placement)
        placement.activation(block.attention, "pool_quantizer", bits)
        placement.activation(block.attention, "output_quantizer", bits)
    placement.activation(block, "output_quantizer", bits if block.residual else FLOAT)
