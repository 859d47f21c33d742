"""The mobilenet-like family: inverted bottlenecks, pruned and quantized per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from searchspaces._base import ModelFamily
from searchspaces.compression import (
    StageBits,
    prune_hidden,
    pruning_space,
    quantization_space,
    quantize_network,
    set_sparsity,
)
from searchspaces.costs import BitColumns, SparsityColumn, StageColumns, Tally, add_stage
from searchspaces.elastic import ElasticMobileNet, ElasticStage
from searchspaces.layers import DENSE, FLOAT_BITS, ConvUnit, Sparsity
from searchspaces.network import Bottleneck, MobileNet, Stage, StageShape, plain_network
from searchspaces.relaxed.mobilenet import RelaxedMobileNet, RelaxedStage

STEM_WIDTH = 16
MIN_RESOLUTION = 4
BITS = (*range(2, 9), FLOAT_BITS)
WIDTHS = (
    (12, 16, 24),
    (16, 24, 32),
    (24, 32, 48),
    (32, 48, 64),
    (48, 64, 96),
    (64, 96, 128),
)


@dataclass(frozen=True)
class MobileNetOptions:
    """What the space offers; narrow it by giving shorter lists.

    Attributes:
        n_stages: 1 to 6.
        depths: blocks per stage.
        widths: output channels, one list per stage; None takes the default lists.
        kernels: odd depthwise kernel sizes.
        expansions: expanded channels over input channels.
        squeeze_excitation: whether blocks may have, or lack, channel attention.
        keep: share of the expanded channels left after pruning.
        sparsity: patterns of zeros in pointwise convolutions: `dense`, `2:4`, `0.75` …
        weight_bits: 2 to 8, or 32 (float).
        activation_bits: 2 to 8, or 32, where weights are quantized.
        symmetric: whether weight codes lie around zero, where steps are per tensor.
    """

    n_stages: int = 3
    depths: tuple[int, ...] = (1, 2, 3)
    widths: tuple[tuple[int, ...], ...] | None = None
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int, ...] = (2, 3, 4)
    squeeze_excitation: tuple[bool, ...] = (False, True)
    keep: tuple[float, ...] = (0.5, 0.75, 1.0)
    sparsity: tuple[str, ...] = (DENSE,)
    weight_bits: tuple[int, ...] = (4, 8, 32)
    activation_bits: tuple[int, ...] = (4, 8, 32)
    symmetric: tuple[bool, ...] = (True,)

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> MobileNetOptions:
        """Read options from JSON: lists for tuples.

        Raises:
            InvalidInputError: an option that does not exist, or a value it cannot have.
        """
        known = cls.__dataclass_fields__
        for name in options:
            if name not in known:
                raise InvalidInputError(
                    f"space.options.{name}", options[name], f"options are {', '.join(known)}"
                )
        parsed = cls(**{name: _tuples(value) for name, value in options.items()})  # type: ignore[arg-type]
        parsed._check()
        return parsed

    def _check(self) -> None:
        if type(self.n_stages) is not int or not 1 <= self.n_stages <= len(WIDTHS):
            raise _bad("n_stages", self.n_stages, f"a whole number from 1 to {len(WIDTHS)}")
        _check_list("depths", self.depths, lambda v: 1 <= v <= 16, "blocks from 1 to 16")
        _check_list("kernels", self.kernels, lambda v: v in (1, 3, 5, 7, 9), "odd sizes to 9")
        _check_list("expansions", self.expansions, lambda v: 1 <= v <= 12, "from 1 to 12")
        for name in ("squeeze_excitation", "symmetric"):
            _check_list(name, getattr(self, name), lambda v: v in (0, 1), "false, true")
        _check_list("keep", self.keep, lambda v: 0 < v <= 1, "shares above 0, up to 1", float)
        self._check_sparsity()
        for name in ("weight_bits", "activation_bits"):
            _check_list(name, getattr(self, name), lambda v: v in BITS, "of 2 to 8, or 32")
        if self.widths is not None:
            if not isinstance(self.widths, tuple) or len(self.widths) != self.n_stages:
                raise _bad("widths", self.widths, f"one list per stage, {self.n_stages} lists")
            for widths in self.widths:
                _check_list("widths", widths, lambda v: 4 <= v <= 1024, "channels from 4 to 1024")

    def _check_sparsity(self) -> None:
        given = self.sparsity
        good = isinstance(given, tuple) and given and all(isinstance(s, str) for s in given)
        if not good or len(set(given)) < len(given):
            raise _bad("sparsity", given, f"a list without repeats, of {DENSE}, N:M or a share")
        for text in given:
            Sparsity.parse(text)

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

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        n_classes: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if min(input_shape[1:]) < MIN_RESOLUTION:
            raise InvalidInputError("input shape", input_shape, "images of at least 4x4 pixels")
        if n_classes < 2:
            raise InvalidInputError("classes", n_classes, "at least two classes")
        self.input_shape = input_shape
        self.n_classes = n_classes
        self.options = MobileNetOptions.parse(options or {})
        self.space = self._space()

    @cached_property
    def strides(self) -> tuple[int, ...]:
        """Stride of the stem, then of each stage."""
        side, n_halvings = min(self.input_shape[1:]), 0
        while -(-side // 2) >= MIN_RESOLUTION:
            side, n_halvings = -(-side // 2), n_halvings + 1
        n = self.options.n_stages
        order = [*range(2, n + 1), 0, 1]
        halved = set(order[:n_halvings])
        return tuple(2 if i in halved else 1 for i in range(n + 1))

    @cached_property
    def pixels(self) -> tuple[int, ...]:
        """Positions of the feature map after the stem, then after each stage."""
        height, width = self.input_shape[1:]
        out = []
        for stride in self.strides:
            height, width = -(-height // stride), -(-width // stride)
            out.append(height * width)
        return tuple(out)

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
        return [self._stage_bits(candidate, name) for name in self._stages]

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

    def _stage_bits(self, candidate: Candidate, name: str) -> StageBits:
        values = candidate.values
        return StageBits(
            weight=_int(values, f"{name}.weight_bits"),
            activation=_int(values, f"{name}.activation_bits", FLOAT_BITS),
            per_channel=values.get(f"{name}.granularity") == "per_channel",
            symmetric=bool(values.get(f"{name}.symmetric", True)),
        )

    def _sparsity_column(self, columns: NDArray[np.int16], name: str) -> SparsityColumn | None:
        j = self.space.column.get(f"{name}.sparsity")
        if j is None:
            return None
        patterns = [Sparsity.parse(str(option)) for option in self.space.decisions[j].options]
        return SparsityColumn(tuple(patterns), columns[j])

    def _stage_columns(self, columns: NDArray[np.int16], i: int) -> StageColumns:
        name = self._stages[i]

        def column(field: str, inactive: float = 0.0) -> NDArray[np.float64]:
            full = f"{name}.{field}"
            if full not in self.space.column:
                return np.full(columns.shape[1], inactive)
            j = self.space.column[full]
            options = [
                float(o) if not isinstance(o, str) else float(o == "per_channel")
                for o in self.space.decisions[j].options
            ]
            return np.array([*options, inactive])[columns[j]]

        n_in: NDArray[np.float64] = np.full(columns.shape[1], float(STEM_WIDTH))
        if i:
            j = self.space.column[f"{self._stages[i - 1]}.width"]
            n_in = np.array(self.space.decisions[j].options, dtype=np.float64)[columns[j]]
        return StageColumns(
            n_in=n_in,
            width=column("width"),
            depth=column("depth"),
            kernel=column("kernel"),
            expansion=column("expansion"),
            squeeze=column("se").astype(np.bool_),
            keep=column("keep"),
            sparsity=self._sparsity_column(columns, name),
            bits=BitColumns(
                column("weight_bits"),
                column("activation_bits", FLOAT_BITS),
                column("granularity").astype(np.bool_),
            ),
            stride=self.strides[i + 1],
            pixels_in=self.pixels[i],
            pixels_out=self.pixels[i + 1],
        )


def _mobilenet(network: nn.Module) -> MobileNet[ConvUnit]:
    if not isinstance(network, MobileNet):
        raise InvalidInputError("network", type(network).__name__, "a network of this family")
    return network


def _int(values: Mapping[str, Value], name: str, default: int | None = None) -> int:
    value = values[name] if default is None else values.get(name, default)
    assert isinstance(value, (int, float))
    return int(value)


def _tuples(value: object) -> object:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


def _bad(name: str, value: object, expected: str) -> InvalidInputError:
    return InvalidInputError(f"space.options.{name}", value, expected)


def _check_list(name: str, values: object, accept: object, expected: str, kind: type = int) -> None:
    assert callable(accept)
    numbers = (int, float) if kind is float else (int,)
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not good or not all(isinstance(v, numbers) and accept(v) for v in values):  # type: ignore[attr-defined]
        raise _bad(name, values, f"a list that is not empty, {expected}")
    if list(values) != sorted(set(values)):  # type: ignore[call-overload]
        raise _bad(name, values, "rising values without repeats")
