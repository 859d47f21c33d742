"""The family of networks of cells, quantized per stage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nas.core import Candidate, CostTable, Genotypes, InvalidInputError, SearchSpace
from searchspaces._base import ModelFamily, Part, Supernet
from searchspaces.cells.costs import cell_costs
from searchspaces.cells.network import CellNetwork, Graph, quantize_cells, sparsify_edges
from searchspaces.cells.options import CellOptions
from searchspaces.cells.skeleton import N_STAGES, Skeleton
from searchspaces.cells.topology import cell_space
from searchspaces.compression import StageBits, quantization_space
from searchspaces.costs import BitColumns
from searchspaces.relaxed.cells import RelaxedCells
from searchspaces.resolution import check_task

STAGES = tuple(f"stage{i}" for i in range(1, N_STAGES + 1))


class CellFamily(ModelFamily):
    """Three stages of cells between stem and classifier, for any image size from 4x4.

    A stage's cells have the same decisions in all stages, or (`unshared`) their own; with `pairs`
    the second and third stage start with a reduction cell, with `dense` with a fixed residual
    block. The final network may be deeper and wider than the relaxed one: cell i of a stage takes
    the decisions of relaxed cell floor(i * relaxed_cells / cells).

    Strides adapt to the image: halvings are spent on the reductions, then the stem, as long as the
    last map keeps at least 4 pixels a side.

    Raises:
        InvalidInputError: images too small, or options that cannot be.

    Reference: Dong and Yang 2020 (NAS-Bench-201); Liu et al. 2019 (DARTS); Wang et al. 2021
    (D-DARTS), for cells that share nothing.
    """

    options_type = CellOptions

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        n_classes: int,
        options: Mapping[str, object] | None = None,
    ) -> None:
        check_task(input_shape, n_classes)
        self.input_shape = input_shape
        self.n_classes = n_classes
        self.options = CellOptions.parse(options or {})
        self.skeleton = self._skeleton(self.options.cells, self.options.width)
        self.space = self._space()

    def build(self, candidate: Candidate) -> nn.Module:
        """The dense float network, before its sparse operations have zeros, and quantization."""
        return CellNetwork(self.skeleton, self.graphs(candidate))

    def graphs(self, candidate: Candidate) -> dict[str, Graph]:
        """The live edges of cells, by owner."""
        columns = self.space.row(candidate)[:, None]
        topology = self.skeleton.topology
        return {
            owner: {
                (int(slot.source[0]), slot.target): topology.operations[int(slot.option[0])]
                for slot in topology.slots(self.space, columns, owner)
                if slot.live[0]
            }
            for owner in self.skeleton.owners
        }

    def prune(self, network: nn.Module, candidate: Candidate) -> None:
        """Give sparse operations their zeros, which may still move while training goes on."""
        sparsify_edges(_cell_network(network))

    def quantize(self, network: nn.Module, candidate: Candidate) -> None:
        """Fold batch norms and attach fake quantizers, observing; after `prune`."""
        quantize_cells(_cell_network(network), self.stage_bits(candidate))

    def stage_bits(self, candidate: Candidate) -> list[StageBits]:
        """Bits by stage."""
        return [StageBits.of(candidate, name) for name in STAGES]

    def bits(self, candidate: Candidate) -> Mapping[str, tuple[int, int]]:
        """(weight bits, activation bits) by stage name; 32 is float."""
        bits = zip(STAGES, self.stage_bits(candidate), strict=True)
        return {name: (b.weight, b.activation) for name, b in bits}

    def parts(self, network: nn.Module, candidate: Candidate) -> Mapping[str, Part]:
        """Stem, cells and classifier."""
        bits = self.stage_bits(candidate)
        sites = enumerate(self.skeleton.sites)
        return {
            "stem": Part("stem", bits[0].at_edge()),
            **{
                f"cells.{i}": Part(f"{STAGES[site.stage]}, cell {i + 1}", bits[site.stage])
                for i, site in sites
            },
            "classifier": Part("classifier", bits[-1].at_edge()),
        }

    def costs(self, rows: Genotypes) -> CostTable:
        """`(n,)` columns for `(n, d)` rows; see the base class, and `cells/costs.py` for the peak.

        Edges that lead nowhere, or come from nowhere, are not built and cost nothing.
        """
        columns = np.ascontiguousarray(rows.T)
        bits = [BitColumns.of(self.space, columns, name) for name in STAGES]
        return cell_costs(self.skeleton, self.space, columns, bits).table()

    def connected(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` whether every cell of `(n, d)` rows joins an input to its output."""
        columns = np.ascontiguousarray(rows.T)
        topology = self.skeleton.topology
        owners = self.skeleton.owners
        cells = [topology.connected(self.space, columns, owner) for owner in owners]
        return np.asarray(np.logical_and.reduce(cells))

    def supernet(self) -> Supernet:
        """Refuses: operations of a cell share no weights that a candidate could inherit.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError(
            "supernet", "cells", "none for the cells family: differentiable search shares weights"
        )

    def relaxed(self, noise: bool = False) -> RelaxedCells:
        """A new relaxed network of the space, with random weights."""
        skeleton = self._skeleton(self.options.relaxed_cells, self.options.relaxed_width)
        return RelaxedCells(self.space, skeleton, noise)

    def _skeleton(self, n_cells: int, width: int) -> Skeleton:
        o = self.options
        topology = o.graph()
        pairs = topology.n_inputs > 1
        if o.unshared:
            share = [i * o.relaxed_cells // n_cells for i in range(n_cells)]
            cells = [
                [f"cell{stage * o.relaxed_cells + i + 1}." for i in share]
                for stage in range(N_STAGES)
            ]
            reductions = [f"reduce{stage}." if pairs else None for stage in range(N_STAGES)]
        else:
            cells = [["normal." if pairs else ""] * n_cells] * N_STAGES
            reductions = ["reduce." if pairs else None] * N_STAGES
        return Skeleton.of(topology, self.input_shape, self.n_classes, width, cells, reductions)

    def _space(self) -> SearchSpace:
        o = self.options
        quantization = quantization_space(N_STAGES, o.weight_bits, o.activation_bits, o.symmetric)
        return cell_space(self.skeleton.topology, self.skeleton.owners).join(quantization)


def _cell_network(network: nn.Module) -> CellNetwork:
    if not isinstance(network, CellNetwork):
        raise InvalidInputError("network", type(network).__name__, "a network of this family")
    return network
