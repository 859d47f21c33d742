"""The mobilenet-like family: inverted bottlenecks, pruned and quantized per stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nas.core import (
    Candidate,
    CostTable,
    Decision,
    Genotypes,
    InvalidInputError,
    SearchSpace,
    Value,
)
from searchspaces._base import ModelFamily, Part
from searchspaces.compression import (
    StageBits,
    prune_hidden,
    pruning_space,
    quantization_space,
    quantize_network,
    set_sparsity,
)
from searchspaces.costs import (
    BitColumns,
    SparsityColumn,
    StageColumns,
    Tally,
    add_stage,
    option_values,
)
from searchspaces.elastic import ElasticMobileNet, ElasticStage
from searchspaces.layers import DENSE, ConvUnit, Sparsity
from searchspaces.network import Bottleneck, MobileNet, Stage, StageShape, plain_network
from searchspaces.options import Options, check_list, check_texts, check_whole, refused
from searchspaces.relaxed.mobilenet import RelaxedMobileNet, RelaxedStage
from searchspaces.resolution import adapted_strides, check_task, map_pixels

STEM_WIDTH = 16
WIDTHS = (
    (12, 16, 24),
    (16, 24, 32),
    (24, 32, 48),
    (32, 48, 64),
    (48, 64, 96),
    (64, 96, 128),
)


@dataclass(frozen=True)
class MobileNetOptions(Options):
    """What the space offers, besides bits; narrow it by giving shorter lists.

    Attributes:
        n_stages: 1 to 6.
        depths: blocks per stage.
        widths: output channels, one list per stage; None takes the default lists.
        kernels: odd depthwise kernel sizes.
        expansions: expanded channels over input channels.
        squeeze_excitation: whether blocks may have, or lack, channel attention.
        keep: share of the expanded channels left after pruning.
        sparsity: patterns of zeros in pointwise convolutions: `dense`, `2:4`, `0.75` …
    """

    n_stages: int = 3
    depths: tuple[int, ...] = (1, 2, 3)
    widths: tuple[tuple[int, ...], ...] | None = None
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int, ...] = (2, 3, 4)
    squeeze_excitation: tuple[bool, ...] = (False, True)
    keep: tuple[float, ...] = (0.5, 0.75, 1.0)
    sparsity: tuple[str, ...] = (DENSE,)

    def check(self) -> None:
        """Refuse what these options cannot be.

        Raises:
            InvalidInputError: a value that one cannot have.
        """
        check_whole("n_stages", self.n_stages, 1, len(WIDTHS))
        check_list("depths", self.depths, lambda v: 1 <= v <= 16, "blocks from 1 to 16")
        check_list("kernels", self.kernels, lambda v: v in (1, 3, 5, 7, 9), "odd sizes to 9")
        check_list("expansions", self.expansions, lambda v: 1 <= v <= 12, "from 1 to 12")
        attention = self.squeeze_excitation
        check_list("squeeze_excitation", attention, lambda v: v in (0, 1), "false, true")
        check_list("keep", self.keep, lambda v: 0 < v <= 1, "shares above 0, up to 1", float)
        check_texts("sparsity", self.sparsity, f"{DENSE}, N:M or a share")
        for text in self.sparsity:
            Sparsity.parse(text)
        if self.widths is not None:
            if not isinstance(self.widths, tuple) or len(self.widths) != self.n_stages:
                raise refused("widths", self.widths, f"one list per stage, {self.n_stages} lists")
            for widths in self.widths:
                check_list("widths", widths, lambda v: 4 <= v <= 1024, "channels from 4 to 1024")

    def stage_widths(self, i: int) -> tuple[int, ...]:
        """Output channels that stage `i` (from 0) may have."""
        return WIDTHS[i] if self.widths is None else self.widths[i]


class MobileNetFamily(ModelFamily):
    """Stem, stages of inverted bottlenecks, head and classifier, for any image size from 4x4.

    Strides adapt to the image: halvings are spent on stages 2, 3, … then the stem and stage 1,
    as long as the last map keeps at least 4 pixels a side.

    Raises:
        InvalidInputError: images too small, or options that cannot be.
    """

    options_type = MobileNetOptions

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        n_classes: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        check_task(input_shape, n_classes)
        self.input_shape = input_shape
        self.n_classes = n_classes
        self.options = MobileNetOptions.parse(options or {})
        self.space = self._space()

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Stride of the stem, then of each stage."""
        return adapted_strides(self.input_shape, [*range(2, self.options.n_stages + 1), 0, 1])

    @cached_property
    def pixels(self) -> tuple[int, ...]:
        """Positions of the feature map after the stem, then after each stage."""
        return map_pixels(self.input_shape, self.strides)

    def build(self, candidate: Candidate) -> nn.Module:
        """The dense float network, before pruning and quantization."""
        return plain_network(
            self.input_shape[0], self.n_classes, STEM_WIDTH, self.strides[0], self.shapes(candidate)
        )

    def shapes(self, candidate: Candidate) -> list[StageShape]:
        """Shapes of the stages, before pruning."""
        values = candidate.values
        widths = [STEM_WIDTH] + [_int(values, f"{s}.width") for s in self._stages]
        return [
            StageShape(
                n_in=n_in,
                width=width,
                depth=_int(values, f"{name}.depth"),
                kernel=_int(values, f"{name}.kernel"),
                expansion=_int(values, f"{name}.expansion"),
                squeeze_excitation=bool(values[f"{name}.se"]),
                stride=stride,
            )
            for name, (n_in, width), stride in zip(
                self._stages, pairwise(widths), self.strides[1:], strict=True
            )
        ]

    def keep_ratios(self, candidate: Candidate) -> list[float]:
        """Share of expanded channels left after pruning, by stage."""
        return [float(candidate.values[f"{name}.keep"]) for name in self._stages]

    def sparsities(self, candidate: Candidate) -> list[Sparsity | None]:
        """Pattern of zeros by stage; None where dense."""
        values = candidate.values
        return [Sparsity.parse(str(values.get(f"{name}.sparsity", DENSE))) for name in self._stages]

    def stage_bits(self, candidate: Candidate) -> list[StageBits]:
        """Bits by stage."""
        return [StageBits.of(candidate, name) for name in self._stages]

    def supernet(self) -> ElasticMobileNet:
        """A new supernet of the space, with random weights."""
        o = self.options
        n_stages = range(o.n_stages)
        widths = [STEM_WIDTH, *(max(o.stage_widths(i)) for i in n_stages)]
        largest = [
            ElasticStage(
                max_in=n_in,
                max_width=width,
                max_depth=max(o.depths),
                kernels=o.kernels,
                max_expansion=max(o.expansions),
                attention=any(o.squeeze_excitation),
                stride=stride,
            )
            for (n_in, width), stride in zip(pairwise(widths), self.strides[1:], strict=True)
        ]
        return ElasticMobileNet(self, largest)

    def relaxed(self, noise: bool = False) -> RelaxedMobileNet:
        """A new relaxed network of the space, with random weights."""
        o = self.options
        widths = [o.stage_widths(i) for i in range(o.n_stages)]
        stages = [
            RelaxedStage(
                n_in=n_in,
                widths=chosen,
                depths=o.depths,
                kernels=o.kernels,
                expansions=o.expansions,
                squeeze_excitation=o.squeeze_excitation,
                keep=o.keep,
                sparsity=o.sparsity,
                stride=stride,
            )
            for (n_in, chosen), stride in zip(
                pairwise([(STEM_WIDTH,), *widths]), self.strides[1:], strict=True
            )
        ]
        return RelaxedMobileNet(
            self.space,
            self.input_shape[0],
            self.n_classes,
            STEM_WIDTH,
            self.strides[0],
            stages,
            noise,
        )

    def prune(self, network: nn.Module, candidate: Candidate) -> None:
        """Remove the least important expanded channels, then set the pattern of zeros."""
        ratios, sparsities = self.keep_ratios(candidate), self.sparsities(candidate)
        stages = _mobilenet(network).stages
        for ratio, sparsity, stage in zip(ratios, sparsities, stages, strict=True):
            assert isinstance(stage, Stage)
            for block in stage.blocks:
                assert isinstance(block, Bottleneck)
                prune_hidden(block, ratio)
                set_sparsity(block, sparsity)

    def quantize(self, network: nn.Module, candidate: Candidate) -> None:
        """Fold batch norms and attach fake quantizers, observing; after `prune`."""
        quantize_network(_mobilenet(network), self.stage_bits(candidate))

    def bits(self, candidate: Candidate) -> Mapping[str, tuple[int, int]]:
        """(weight bits, activation bits) by stage name; 32 is float."""
        bits = zip(self._stages, self.stage_bits(candidate), strict=True)
        return {name: (b.weight, b.activation) for name, b in bits}

    def parts(self, network: nn.Module, candidate: Candidate) -> Mapping[str, Part]:
        """Stem, stages, head and classifier."""
        bits = self.stage_bits(candidate)
        stages = zip(self._stages, bits, strict=True)
        return {
            "stem": Part("stem", bits[0].at_edge()),
            **{f"stages.{i}": Part(name, own) for i, (name, own) in enumerate(stages)},
            "head": Part("head", bits[-1]),
            "classifier": Part("classifier", bits[-1].at_edge()),
        }

    def connected(self, rows: Genotypes) -> NDArray[np.bool_]:
        """All of them: every block keeps channels."""
        return np.ones(len(rows), dtype=np.bool_)

    def costs(self, rows: Genotypes) -> CostTable:
        """`(n,)` columns for `(n, d)` rows; see the base class for what they count."""
        columns = np.ascontiguousarray(rows.T)
        n_in, height, width = self.input_shape
        tally = Tally(len(rows))
        stages = [self._stage_columns(columns, i) for i in range(len(self._stages))]
        first, last = stages[0].bits.at_edge(), stages[-1]
        tally.layer(n_in, STEM_WIDTH, 9, self.pixels[0], first)
        tally.alive(n_in * height * width + STEM_WIDTH * self.pixels[0], first)
        for stage in stages:
            add_stage(tally, stage)
        tally.layer(last.width, 2 * last.width, 1, self.pixels[-1], last.bits)
        tally.alive(3 * last.width * self.pixels[-1], last.bits)
        tally.layer(2 * last.width, self.n_classes, 1, 1, last.bits.at_edge())
        tally.alive(2 * last.width + self.n_classes, last.bits.at_edge())
        return tally.table()

    @cached_property
    def _stages(self) -> tuple[str, ...]:
        return tuple(f"stage{i}" for i in range(1, self.options.n_stages + 1))

    def _space(self) -> SearchSpace:
        o = self.options
        architecture: list[Decision] = []
        for i, name in enumerate(self._stages):
            architecture += [
                Decision(f"{name}.depth", o.depths),
                Decision(f"{name}.width", o.stage_widths(i)),
                Decision(f"{name}.kernel", o.kernels),
                Decision(f"{name}.expansion", o.expansions),
                Decision(f"{name}.se", o.squeeze_excitation),
            ]
        pruning = pruning_space(o.n_stages, o.keep, o.sparsity)
        quantization = quantization_space(o.n_stages, o.weight_bits, o.activation_bits, o.symmetric)
        return SearchSpace(tuple(architecture)).join(pruning).join(quantization)

    def _sparsity_column(self, columns: NDArray[np.int16], name: str) -> SparsityColumn | None:
        j = self.space.column.get(f"{name}.sparsity")
        if j is None:
            return None
        patterns = [Sparsity.parse(str(option)) for option in self.space.decisions[j].options]
        return SparsityColumn(tuple(patterns), columns[j])

    def _stage_columns(self, columns: NDArray[np.int16], i: int) -> StageColumns:
        name = self._stages[i]

        def column(field: str) -> NDArray[np.float64]:
            return option_values(self.space, columns, f"{name}.{field}")

        n_in: NDArray[np.float64] = np.full(columns.shape[1], float(STEM_WIDTH))
        if i:
            n_in = option_values(self.space, columns, f"{self._stages[i - 1]}.width")
        return StageColumns(
            n_in=n_in,
            width=column("width"),
            depth=column("depth"),
            kernel=column("kernel"),
            expansion=column("expansion"),
            squeeze=column("se").astype(np.bool_),
            keep=column("keep"),
            sparsity=self._sparsity_column(columns, name),
            bits=BitColumns.of(self.space, columns, name),
            stride=self.strides[i + 1],
            pixels_in=self.pixels[i],
            pixels_out=self.pixels[i + 1],
        )


def _mobilenet(network: nn.Module) -> MobileNet[ConvUnit]:
    if not isinstance(network, MobileNet):
        raise InvalidInputError("network", type(network).__name__, "a network of this family")
    return network


def _int(values: Mapping[str, Value], name: str) -> int:
    value = values[name]
    assert isinstance(value, (int, float))
    return int(value)
