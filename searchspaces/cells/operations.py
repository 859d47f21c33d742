"""What may stand on an edge of a cell, told once for plain networks, mixtures and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from torch import nn

from nas.core import UnknownNameError
from searchspaces.layers import DENSE, Sparsity


class Kind(StrEnum):
    """How an operation works; only convolutions have weights."""

    NONE = "none"
    SKIP = "skip"
    AVERAGE = "average"
    MAXIMUM = "maximum"
    NOISE = "noise"
    CONVOLUTION = "convolution"


@dataclass(frozen=True)
class Convolution:
    """A convolution from all channels to as many, `same` padded.

    Depthwise ones have neither norm nor activation after them, the others a norm.
    """

    kernel: int = 1
    depthwise: bool = False
    dilation: int = 1
    rectified: bool = False
    """Whether a ReLU follows the norm."""


@dataclass(frozen=True)
class Operation:
    """What an edge does.

    Convolutions read the rectified node (ReLU, convolution, norm, as DARTS has it), all others the
    node as it is.

    Attributes:
        kind: how it works.
        convolutions: in order; none of any other kind.
        sparsity: the pattern of zeros in their weights, in its text form.
    """

    kind: Kind
    convolutions: tuple[Convolution, ...] = ()
    sparsity: str = DENSE

    @property
    def has_weights(self) -> bool:
        """Whether there is anything to learn."""
        return bool(self.convolutions)

    def layer(self, stride: int = 1) -> nn.Module:
        """The layer of a pool or a skip connection."""
        match self.kind:
            case Kind.AVERAGE:
                return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
            case Kind.MAXIMUM:
                return nn.MaxPool2d(3, stride, 1)
            case Kind.SKIP:
                return nn.Identity()
            case _:
                raise AssertionError(self.kind)

    def with_stride(self, stride: int) -> Operation:
        """What stands for it where the map is halved: a skip connection is then a 1x1 convolution.

        DARTS has two of half the width there, one of them shifted by a pixel.
        """
        return SHORTCUT if self.kind is Kind.SKIP and stride > 1 else self


def _convolution(kernel: int) -> Operation:
    return Operation(Kind.CONVOLUTION, (Convolution(kernel),))


def _separable(kernel: int) -> Operation:
    depthwise = Convolution(kernel, depthwise=True)
    twice = depthwise, Convolution(rectified=True), depthwise, Convolution()
    return Operation(Kind.CONVOLUTION, twice)


def _dilated(kernel: int) -> Operation:
    depthwise = Convolution(kernel, depthwise=True, dilation=2)
    return Operation(Kind.CONVOLUTION, (depthwise, Convolution()))


SHORTCUT = _convolution(1)
CONVOLUTIONS = {"nor_conv_1x1": _convolution(1), "nor_conv_3x3": _convolution(3)}
"""Those that may be sparse."""

OPERATIONS: Mapping[str, Operation] = {
    "none": Operation(Kind.NONE),
    "skip_connect": Operation(Kind.SKIP),
    **CONVOLUTIONS,
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "avg_pool_3x3": Operation(Kind.AVERAGE),
    "max_pool_3x3": Operation(Kind.MAXIMUM),
    "noise": Operation(Kind.NOISE),
}


def operation(name: str) -> Operation:
    """The operation of that name; `nor_conv_3x3/0.95` has that pattern of zeros (DASS).

    Raises:
        UnknownNameError: no such operation, or none that can be sparse.
        InvalidInputError: a pattern of zeros that cannot be.

    Reference: Liu et al. 2019 (DARTS), section 3.1; Dong and Yang 2020 (NAS-Bench-201), section
    2.1; Zela et al. 2020 (R-DARTS), section 3, for the noise.
    """
    plain, slash, sparsity = name.partition("/")
    if plain not in OPERATIONS or (slash and plain not in CONVOLUTIONS):
        known = [*OPERATIONS, *(f"{k}/0.95" for k in CONVOLUTIONS)]
        raise UnknownNameError("operation", name, known)
    found = OPERATIONS[plain]
    if not slash:
        return found
    Sparsity.parse(sparsity)
    return replace(found, sparsity=sparsity)
