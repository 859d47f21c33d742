"""Families whose networks are written in plain torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
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
from searchspaces._base import ModelFamily, Part, Supernet
from searchspaces.compression import StageBits, quantization_space
from searchspaces.costs import BitColumns, SparsityColumn
from searchspaces.layers import DENSE, Sparsity
from searchspaces.options import Options, check_texts
from searchspaces.relaxed._base import RelaxedNetwork
from searchspaces.traced.costs import Layout
from searchspaces.traced.graph import TracedNetwork, traced
from searchspaces.traced.quantization import bits_of, quantize_graph, sparsify_graph

REMEMBERED = 65_536
"""Architectures whose layout is kept, a few kilobytes each."""
WHOLE = "network"
"""Name of the only stage, where none is named."""


@dataclass(frozen=True)
class TracedOptions(Options):
    """What the space offers besides the decisions of the family.

    Attributes:
        sparsity: patterns of zeros in convolutions: `dense`, `2:4`, `0.75` …
    """

    sparsity: tuple[str, ...] = (DENSE,)

    def check(self) -> None:
        """Refuse what these options cannot be.

        Raises:
            InvalidInputError: a value that one cannot have.
        """
        check_texts("sparsity", self.sparsity, f"{DENSE}, N:M or a share")
        for text in self.sparsity:
            Sparsity.parse(text)


class TracedFamily(ModelFamily):
    """Your own networks: name the decisions, and write the network of their values.

        class TinyNet(TracedFamily):
            decisions = (Decision("width", (8, 16, 32)), Decision("kernel", (3, 5)))

            def network(self, values):
                width, kernel = values["width"], values["kernel"]
                return nn.Sequential(
                    nn.Conv2d(self.input_shape[0], width, kernel), nn.BatchNorm2d(width), nn.ReLU(),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, self.n_classes),
                )

    Every stage gets decisions for its bits and, where the options say so, its zeros. With no
    decisions of its own the family is one network, whose weights may be trained already, and the
    search is for how to compress it. Costs are counted on the traced network, once for each
    architecture; peak memory as `Layout.tally` says.

    Attributes:
        decisions: of the architecture.
        stages: names of submodules that have bits and zeros of their own, in the order they run;
            layers elsewhere have those of the stage before. With none there is a single stage.

    Raises:
        InvalidInputError: options that cannot be, or a network that cannot be traced, of layers
            with weights other than Conv2d, Linear and BatchNorm2d behind a convolution.
    """

    options_type = TracedOptions
    decisions: ClassVar[tuple[Decision, ...]] = ()
    stages: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        n_classes: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        if n_classes < 2:
            raise InvalidInputError("classes", n_classes, "at least two classes")
        self.input_shape = input_shape
        self.n_classes = n_classes
        self.options = TracedOptions.parse(options or {})
        self.space = self._space()
        self._layouts: dict[bytes, Layout] = {}
        self.costs(self.space.sample(1, np.random.default_rng(0)))  # refuses what cannot be traced

    @abstractmethod
    def network(self, values: Mapping[str, Value]) -> nn.Module:
        """A new network: `(B, *input_shape)` images to `(B, n_classes)` logits."""

    def build(self, candidate: Candidate) -> TracedNetwork:
        """The dense float network, before pruning and quantization."""
        names = [decision.name for decision in self.decisions]
        return self._graph({n: v for n, v in candidate.values.items() if n in names})

    def prune(self, network: nn.Module, candidate: Candidate) -> None:
        """Give convolutions their zeros, which may still move while training goes on."""
        values = candidate.values
        texts = [str(values.get(f"{s}.sparsity", DENSE)) for s in self._stages]
        sparsify_graph(_traced(network), [Sparsity.parse(text) for text in texts])

    def quantize(self, network: nn.Module, candidate: Candidate) -> None:
        """Fold batch norms and attach fake quantizers, observing; after `prune`."""
        quantize_graph(_traced(network), self._bits(candidate))

    def costs(self, rows: Genotypes) -> CostTable:
        """`(n,)` columns for `(n, d)` rows; see the base class and `Layout.tally`."""
        architectures, which = np.unique(
            rows[:, : len(self.decisions)], axis=0, return_inverse=True
        )
        found: dict[str, NDArray[np.float64]] = {}
        for i in range(len(architectures)):
            at = np.flatnonzero(which == i)
            for name, column in self._costs_of_one(rows[at]).items():
                found.setdefault(name, np.zeros(len(rows)))[at] = column
        return found

    def connected(self, rows: Genotypes) -> NDArray[np.bool_]:
        """All of them."""
        return np.ones(len(rows), dtype=np.bool_)

    def bits(self, candidate: Candidate) -> Mapping[str, tuple[int, int]]:
        """(weight bits, activation bits) by stage name; 32 is float."""
        bits = zip(self.stages or (WHOLE,), self._bits(candidate), strict=True)
        return {name: (b.weight, b.activation) for name, b in bits}

    def parts(self, network: nn.Module, candidate: Candidate) -> Mapping[str, Part]:
        """Every unit of the graph, named after its stage."""
        names, bits = self.stages or (WHOLE,), self._bits(candidate)
        return {
            f"body.{unit}": Part(names[mark.stage], bits_of(mark, bits))
            for unit, mark in _traced(network).marks.items()
        }

    def supernet(self) -> Supernet:
        """Refuses: nothing says which weights of your networks are shared.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("supernet", type(self).__name__, "none for traced families")

    def relaxed(self, noise: bool = False) -> RelaxedNetwork:
        """Refuses, likewise.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("differentiable", type(self).__name__, "none for traced families")

    @property
    def _stages(self) -> tuple[str, ...]:
        return tuple(f"stage{i + 1}" for i in range(max(1, len(self.stages))))

    def _bits(self, candidate: Candidate) -> list[StageBits]:
        return [StageBits.of(candidate, name) for name in self._stages]

    def _space(self) -> SearchSpace:
        o, zeros = self.options, []
        if o.sparsity != (DENSE,):
            zeros = [Decision(f"{s}.sparsity", o.sparsity, ordered=False) for s in self._stages]
        bits = quantization_space(len(self._stages), o.weight_bits, o.activation_bits, o.symmetric)
        return SearchSpace((*self.decisions, *zeros, *bits.decisions))

    def _graph(self, values: Mapping[str, Value]) -> TracedNetwork:
        network = traced(self.network(values), self.stages, self.input_shape)
        if network.out_shape != (1, self.n_classes):
            expected = f"logits (batch, {self.n_classes}), not {network.out_shape}"
            raise InvalidInputError("space", type(self).__name__, expected)
        return network

    def _layout(self, architecture: Genotypes) -> Layout:
        key = architecture.tobytes()
        if key not in self._layouts:
            if len(self._layouts) >= REMEMBERED:
                del self._layouts[next(iter(self._layouts))]
            chosen = zip(self.decisions, architecture.tolist(), strict=True)
            values = {decision.name: decision.options[i] for decision, i in chosen if i >= 0}
            with torch.random.fork_rng(devices=[]):  # counting draws no one's random numbers
                self._layouts[key] = Layout.of(self._graph(values))
        return self._layouts[key]

    def _costs_of_one(self, rows: Genotypes) -> CostTable:
        """Costs of rows that share their architecture."""
        columns = np.ascontiguousarray(rows.T)
        layout = self._layout(rows[0, : len(self.decisions)])
        bits = [BitColumns.of(self.space, columns, name) for name in self._stages]
        zeros = [self._zeros(columns, name) for name in self._stages]
        return layout.tally(len(rows), bits, zeros).table()

    def _zeros(self, columns: Genotypes, name: str) -> SparsityColumn | None:
        j = self.space.column.get(f"{name}.sparsity")
        if j is None:
            return None
        patterns = [Sparsity.parse(str(option)) for option in self.space.decisions[j].options]
        return SparsityColumn(tuple(patterns), columns[j])


def _traced(network: nn.Module) -> TracedNetwork:
    if not isinstance(network, TracedNetwork):
        raise InvalidInputError("network", type(network).__name__, "a network of this family")
    return network
