"""Closed-form costs for whole populations: what every family counts, and mobilenet stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.core import SearchSpace
from searchspaces.compression.pruning import kept_channels
from searchspaces.compression.quantization import EDGE_BITS
from searchspaces.layers import FLOAT_BITS, Sparsity

Column = NDArray[np.float64]
BIAS_BYTES = 4
SCALE_BYTES = 4


def option_values(
    space: SearchSpace, columns: NDArray[np.int16], name: str, inactive: float = 0.0
) -> Column:
    """`(n,)` options of a decision as numbers, of `(d, n)` columns; `inactive` where it is not.

    Texts are 1 for `per_channel` and 0 for any other.
    """
    if name not in space.column:
        return np.full(columns.shape[1], inactive)
    j = space.column[name]
    options = [
        float(o) if not isinstance(o, str) else float(o == "per_channel")
        for o in space.decisions[j].options
    ]
    return np.array([*options, inactive])[columns[j]]


@dataclass(frozen=True)
class BitColumns:
    """`(n,)` weight bits, activation bits, and whether scales are per channel."""

    weight: Column
    activation: Column
    per_channel: NDArray[np.bool_]

    @classmethod
    def of(cls, space: SearchSpace, columns: NDArray[np.int16], stage: str) -> Self:
        """What `(d, n)` columns chose for `stage` in a `quantization_space`."""
        return cls(
            option_values(space, columns, f"{stage}.weight_bits"),
            option_values(space, columns, f"{stage}.activation_bits", FLOAT_BITS),
            option_values(space, columns, f"{stage}.granularity").astype(np.bool_),
        )

    def at_edge(self) -> BitColumns:
        """The bits of a first or last layer."""
        return BitColumns(
            np.maximum(self.weight, EDGE_BITS),
            np.maximum(self.activation, EDGE_BITS),
            self.per_channel,
        )


@dataclass(frozen=True)
class SparsityColumn:
    """Patterns of zeros there are, and `(n,)` which of them a candidate has."""

    patterns: tuple[Sparsity | None, ...]
    chosen: NDArray[np.int16]

    def nonzeros(self, inputs: Column) -> Column:
        """`(n,)` weights left of each output's `(n,)` inputs."""
        return self._chosen([inputs if p is None else p.nonzeros(inputs) for p in self.patterns])

    def index_bits(self, inputs: Column) -> Column:
        """`(n,)` bits per output that tell where its weights are."""
        zeros = np.zeros_like(inputs)
        return self._chosen([zeros if p is None else p.index_bits(inputs) for p in self.patterns])

    def _chosen(self, columns: list[Column]) -> Column:
        return np.choose(self.chosen, [np.broadcast_to(c, self.chosen.shape) for c in columns])


@dataclass
class Tally:
    """Running `(n,)` sums over layers; `peak` is a running maximum, in bits."""

    n: int
    params: Column = field(init=False)
    macs: Column = field(init=False)
    bit_ops: Column = field(init=False)
    weight_bytes: Column = field(init=False)
    peak: Column = field(init=False)

    def __post_init__(self) -> None:
        for name in ("params", "macs", "bit_ops", "weight_bytes", "peak"):
            setattr(self, name, np.zeros(self.n))

    def layer(
        self,
        n_in: Column | int,
        n_out: Column | int,
        taps: Column | int,
        pixels: int,
        bits: BitColumns,
        times: NDArray[Any] | int = 1,
        sparsity: SparsityColumn | None = None,
    ) -> None:
        """Add `times` convolutions of `taps` weights per (input, output) pair and one bias each.

        `n_in` counts input channels per group, `pixels` output positions.
        """
        inputs = np.asarray(n_in * taps, dtype=np.float64)
        index_bits: Column | float = 0.0
        if sparsity is not None:
            inputs, index_bits = sparsity.nonzeros(inputs), sparsity.index_bits(inputs)
        weights = inputs * n_out
        macs = weights * pixels * times
        self.params += (weights + n_out) * times
        self.macs += macs
        self.bit_ops += macs * bits.weight * bits.activation
        scales = np.where(bits.weight < FLOAT_BITS, np.where(bits.per_channel, n_out, 1), 0)
        self.weight_bytes += times * (
            np.ceil((weights * bits.weight + index_bits * n_out) / 8)
            + n_out * BIAS_BYTES
            + scales * SCALE_BYTES
        )

    def alive(
        self, n_values: Column | int, bits: BitColumns, where: NDArray[np.bool_] | bool = True
    ) -> None:
        """`n_values` activations are held at once, wherever `where`."""
        self.alive_bits(n_values * bits.activation, where)

    def alive_bits(self, n_bits: Column, where: NDArray[np.bool_] | bool = True) -> None:
        """`(n,)` bits of activations are held at once, wherever `where`."""
        np.maximum(self.peak, np.where(where, n_bits, 0.0), out=self.peak)

    def table(self) -> Mapping[str, Column]:
        """The cost columns."""
        return {
            "params": self.params,
            "macs": self.macs,
            "bit_ops": self.bit_ops,
            "weight_bytes": self.weight_bytes,
            "peak_activation_bytes": np.ceil(self.peak / 8),
        }


@dataclass(frozen=True)
class StageColumns:
    """`(n,)` decisions of one stage and the sizes its stride leads to."""

    n_in: Column
    width: Column
    depth: Column
    kernel: Column
    expansion: Column
    squeeze: NDArray[np.bool_]
    keep: Column
    sparsity: SparsityColumn | None
    bits: BitColumns
    stride: int
    pixels_in: int
    pixels_out: int


def add_stage(tally: Tally, stage: StageColumns) -> None:
    """Add the first block, then the others, which are all alike."""
    first_residual = (stage.n_in == stage.width) & (stage.stride == 1)
    _add_block(tally, stage, stage.n_in, stage.pixels_in, 1, first_residual, np.array(True))
    others = stage.depth - 1
    _add_block(tally, stage, stage.width, stage.pixels_out, others, np.array(True), others > 0)


def _add_block(
    tally: Tally,
    stage: StageColumns,
    n_in: Column,
    pixels_in: int,
    times: Column | int,
    residual: NDArray[np.bool_],
    exists: NDArray[np.bool_],
) -> None:
    bits, pixels = stage.bits, stage.pixels_out
    full = n_in * stage.expansion
    hidden = kept_channels(full, stage.keep)
    tally.layer(n_in, hidden, 1, pixels_in, bits, times, stage.sparsity)
    tally.layer(1, hidden, stage.kernel**2, pixels, bits, times)
    inner = np.maximum(4, full // 16 * 4)
    squeezed = times * stage.squeeze
    tally.layer(hidden, inner, 1, 1, bits, squeezed)
    tally.layer(inner, hidden, 1, 1, bits, squeezed)
    tally.layer(hidden, stage.width, 1, pixels, bits, times, stage.sparsity)
    kept_input = np.where(residual, n_in * pixels_in, 0.0)
    tally.alive(n_in * pixels_in + hidden * pixels_in, bits, exists)
    tally.alive(hidden * (pixels_in + pixels) + kept_input, bits, exists)
    tally.alive((hidden + stage.width) * pixels + kept_input, bits, exists)
