"""Closed-form costs of networks of cells for whole populations.

Peak activations: a cell's inputs and its nodes are held, each from when it is complete until the
cell ends, sums being made in place; on top of them every weighted layer has its own input (the
rectified copy of a node) and output. A concatenation is its nodes. A fixed reduction is a cell
whose nodes are its shortcut and its sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nas.core import SearchSpace
from searchspaces.cells.operations import Operation
from searchspaces.cells.skeleton import Site, Skeleton
from searchspaces.cells.topology import Slot, Topology
from searchspaces.costs import BitColumns, Column, SparsityColumn, Tally
from searchspaces.layers import FLOAT_BITS, Sparsity


def cell_costs(
    skeleton: Skeleton,
    space: SearchSpace,
    columns: NDArray[np.int16],
    bits: Sequence[BitColumns],
) -> Tally:
    """What the networks of `(d, n)` columns cost; `bits` by stage."""
    tally = Tally(columns.shape[1])
    n_in, height, width = skeleton.input_shape
    stem, edge = bits[0].at_edge(), bits[-1].at_edge()
    pixels = skeleton.sites[0].pixels_in[-1]
    tally.layer(n_in, skeleton.width, 9, pixels, stem)
    tally.alive(n_in * height * width + skeleton.width * pixels, stem)
    widths = [stem.activation, *(bits[site.stage].activation for site in skeleton.sites)]

    @cache
    def slots(owner: str) -> list[Slot]:
        return skeleton.topology.slots(space, columns, owner)

    for site in skeleton.sites:
        held = np.zeros(tally.n)
        for i in sorted(set(site.inputs)):
            k = site.inputs.index(i)
            held = held + site.n_in[k] * site.pixels_in[k] * widths[i]
        if site.owner is None:
            _add_reduction(tally, site, bits[site.stage], held)
        else:
            _add_cell(tally, site, skeleton.topology, slots(site.owner), bits[site.stage], held)
    tally.layer(skeleton.n_out, skeleton.n_classes, 1, 1, edge)
    tally.alive_bits(skeleton.n_out * edge.activation + skeleton.n_classes * FLOAT_BITS)
    return tally


def _add_reduction(tally: Tally, site: Site, bits: BitColumns, held: Column) -> None:
    n_in, width, pixels = site.n_in[0], site.width, site.pixels
    tally.layer(n_in, width, 1, pixels, bits)
    tally.alive_bits(held + (n_in + width) * pixels * bits.activation)
    held = held + width * pixels * bits.activation
    tally.layer(n_in, width, 9, pixels, bits)
    tally.alive_bits(held + (n_in * site.pixels_in[0] + width * pixels) * bits.activation)
    tally.layer(width, width, 9, pixels, bits)
    tally.alive_bits(held + 2 * width * pixels * bits.activation)


def _add_cell(
    tally: Tally,
    site: Site,
    topology: Topology,
    slots: Sequence[Slot],
    bits: BitColumns,
    held: Column,
) -> None:
    pixels_in = site.pixels_in[-1]
    if topology.n_inputs > 1:
        for n_in, pixels in zip(site.n_in, site.pixels_in, strict=True):
            tally.layer(n_in, site.width, 1, pixels_in, bits)
            projected = site.width * pixels_in * bits.activation
            tally.alive_bits(held + n_in * pixels * bits.activation + projected)
            held = held + projected
    strides = [np.where(s.source < topology.n_inputs, site.stride, 1) for s in slots]
    node = site.width * site.pixels * bits.activation
    complete = [held]
    for target in range(topology.n_inputs, topology.n_nodes):
        live = [slot.live for slot in slots if slot.target == target]
        exists = np.logical_or.reduce(live) | (target in topology.outputs)
        complete.append(complete[-1] + np.where(exists, node, 0.0))
    tally.alive_bits(complete[-1])
    for stride in sorted({1, site.stride}):
        operations = [operation.with_stride(stride) for operation in topology.operations]
        weighted = np.array([operation.has_weights for operation in operations])
        read = site.width * (pixels_in if stride > 1 else site.pixels) * bits.activation
        times = np.zeros((len(operations), tally.n))
        for slot, found in zip(slots, strides, strict=True):
            exists = slot.live & (found == stride)
            before = complete[slot.target - topology.n_inputs]
            tally.alive_bits(before + read + node, exists & weighted[slot.option])
            times[slot.option, np.arange(tally.n)] += exists
        for operation, n in zip(operations, times, strict=True):
            _add_operation(tally, site, operation, bits, n)


def _add_operation(
    tally: Tally, site: Site, operation: Operation, bits: BitColumns, times: Column
) -> None:
    pattern = Sparsity.parse(operation.sparsity)
    zeros = None
    if pattern is not None:
        zeros = SparsityColumn((pattern,), np.zeros(tally.n, dtype=np.int16))
    for convolution in operation.convolutions:
        n_in = 1 if convolution.depthwise else site.width
        taps = convolution.kernel**2
        tally.layer(n_in, site.width, taps, site.pixels, bits, times, zeros)
