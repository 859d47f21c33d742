"""Where the cells of a network stand: told once for plain networks, mixtures and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from searchspaces.cells.topology import Topology
from searchspaces.resolution import adapted_strides, map_pixels

N_STAGES = 3
STRIDE_ORDER = (1, 2, 0)
"""Places that may halve the map, first come first: second stage, third stage, stem."""


@dataclass(frozen=True)
class Site:
    """A place for a cell, or for a fixed reduction.

    Attributes:
        owner: before the names of the cell's decisions; None for a fixed reduction.
        stage: from 0; the bits it is held in are this stage's.
        inputs: tensors it reads; 0 is the stem's, k the one of the k-th site.
        n_in, pixels_in: channels and positions of each.
        stride_in: brings the first input to the second's map.
        width: channels of its nodes.
        stride: of the edges that read an input.
        pixels: positions of its nodes.
    """

    owner: str | None
    stage: int
    inputs: tuple[int, ...]
    n_in: tuple[int, ...]
    pixels_in: tuple[int, ...]
    stride_in: int
    width: int
    stride: int
    pixels: int


@dataclass(frozen=True)
class Skeleton:
    """Stem, three stages of cells, classifier; the second and third stage start with a reduction.

    A reduction doubles the width and halves the map where the image is large enough.

    Attributes:
        topology: of the cells.
        input_shape: `(channels, height, width)` of an image.
        n_classes: number of logits.
        width: channels of the stem and of the first stage's nodes.
        stem_stride: halves large images before the first cell.
        sites: in order.
        n_out: channels of the last one's output.

    Reference: Dong and Yang 2020 (NAS-Bench-201), figure 1; Liu et al. 2019 (DARTS), section 3.1.
    Departures: DARTS' stem is three times as wide as its cells; strides adapt to the image; a ReLU
    and no norm stand before the last pooling, so that all norms can be folded.
    """

    topology: Topology
    input_shape: tuple[int, int, int]
    n_classes: int
    width: int
    stem_stride: int
    sites: tuple[Site, ...]
    n_out: int

    @property
    def owners(self) -> list[str]:
        """Before the names of decisions, each once, in the order of the sites."""
        found = [site.owner for site in self.sites if site.owner is not None]
        return list(dict.fromkeys(found))

    @classmethod
    def of(
        cls,
        topology: Topology,
        input_shape: tuple[int, int, int],
        n_classes: int,
        width: int,
        cells: Sequence[Sequence[str]] = (("",),) * N_STAGES,
        reductions: Sequence[str | None] = (None,) * N_STAGES,
    ) -> Self:
        """The skeleton for images of this shape.

        Args:
            topology: of the cells.
            input_shape: `(channels, height, width)`.
            n_classes: number of logits.
            width: of the first stage.
            cells: owners by stage, in order.
            reductions: owner by stage; the first one's is never used.
        """
        strides = adapted_strides(input_shape, STRIDE_ORDER)
        pixels = map_pixels(input_shape, strides)
        tensors = [(width, 0)]  # channels, and the stage whose map it has
        sites: list[Site] = []
        for stage in range(N_STAGES):
            owners: list[tuple[str | None, int]] = [(owner, 1) for owner in cells[stage]]
            if stage:
                owners = [(reductions[stage], strides[stage]), *owners]
            for owner, stride in owners:
                inputs = tuple(max(len(tensors) - i, 0) for i in range(topology.n_inputs, 0, -1))
                maps = [tensors[k][1] for k in inputs]
                site = Site(
                    owner=owner,
                    stage=stage,
                    inputs=inputs,
                    n_in=tuple(tensors[k][0] for k in inputs),
                    pixels_in=tuple(pixels[m] for m in maps),
                    stride_in=strides[maps[-1]] if maps[0] < maps[-1] else 1,
                    width=width << stage,
                    stride=stride,
                    pixels=pixels[stage],
                )
                sites.append(site)
                tensors.append((site.width * len(topology.outputs), stage))
        n_out = tensors[-1][0]
        return cls(topology, input_shape, n_classes, width, strides[0], tuple(sites), n_out)
