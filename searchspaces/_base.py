"""What a family of networks must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import Candidate, CostTable, Genotypes, SearchSpace
from searchspaces.compression import StageBits
from searchspaces.compression.pruning import Importance
from searchspaces.options import Options
from searchspaces.relaxed._base import RelaxedNetwork


@dataclass(frozen=True)
class Part:
    """A submodule of a network whose layers all have the same bits.

    Attributes:
        name: for people, `stem` or `stage2`; parts that belong together share it.
        bits: of its layers with weights.
    """

    name: str
    bits: StageBits


class Supernet(nn.Module, ABC):
    """Shared weights from which every candidate of a space is run."""

    @abstractmethod
    def activate(self, candidate: Candidate, quantized: bool = True) -> None:
        """Make `candidate` the network that runs; in float if not `quantized`. Cheap."""

    @abstractmethod
    def set_dropout(self, share: float) -> None:
        """Drop this share of the classifier's inputs in training."""

    @abstractmethod
    def sort_channels(self, importance: Importance = "l1") -> None:
        """Put channels in order of importance; the largest candidate computes the same."""

    @abstractmethod
    def calibrate(self, x: Tensor) -> None:
        """Refresh batch-norm statistics and activation ranges of the active candidate from `x`."""

    @abstractmethod
    def extract(self, candidate: Candidate, quantized: bool = True) -> nn.Module:
        """A plain network that computes what the calibrated supernet does for `candidate`."""


class ModelFamily(ABC):
    """Turns candidates of a space into networks, and counts what they cost.

    Attributes:
        space: the joint space of architecture, pruning and quantization.
        input_shape: `(channels, height, width)` of an image.
        n_classes: number of logits.
        options_type: what narrows the space.
    """

    options_type: ClassVar[type[Options]]
    space: SearchSpace
    input_shape: tuple[int, int, int]
    n_classes: int

    @abstractmethod
    def build(self, candidate: Candidate) -> nn.Module:
        """The dense float network, before pruning and quantization."""

    @abstractmethod
    def prune(self, network: nn.Module, candidate: Candidate) -> None:
        """Remove what the candidate prunes from a network of `build`, in place and for real."""

    @abstractmethod
    def quantize(self, network: nn.Module, candidate: Candidate) -> None:
        """Fold batch norms and attach fake quantizers, observing, in place; after `prune`."""

    @abstractmethod
    def costs(self, rows: Genotypes) -> CostTable:
        """`(n,)` columns for `(n, d)` rows, of the pruned and quantized networks.

        Columns: `params` and `macs`, zeros of sparse layers left out; `bit_ops` (MACs times weight
        bits times input bits); `weight_bytes` (weights at their bits, with the places of sparse
        ones, float32 biases and scales);
        `peak_activation_bytes` (the most input, output and kept residual bytes any layer needs).
        A stage whose activations are float reads its input as float. No network is built.
        """

    @abstractmethod
    def connected(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` of `(n, d)` rows, whose networks' outputs follow their inputs.

        Others are constant and can learn nothing, so no search asks for them.
        """

    @abstractmethod
    def bits(self, candidate: Candidate) -> Mapping[str, tuple[int, int]]:
        """(weight bits, activation bits) by stage name; 32 is float."""

    @abstractmethod
    def parts(self, network: nn.Module, candidate: Candidate) -> Mapping[str, Part]:
        """What a network of `build` consists of, by names of submodules.

        Each layer with weights is in one of them, and is quantized to the bits of that part.
        """

    @abstractmethod
    def supernet(self) -> Supernet:
        """A new supernet of the space, with random weights.

        Raises:
            InvalidInputError: the family has none.
        """

    @abstractmethod
    def relaxed(self, noise: bool = False) -> RelaxedNetwork:
        """A new relaxed network of the space, with random weights.

        With `noise`, weights get noise as wide as a step instead of being rounded.
        """
