"""The Matérn kernel that Gaussian processes share, in the precision of what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating)


@dataclass(frozen=True)
class Kernel:
    """`amplitude * (matern(distance / length) + noise * identity)`."""

    amplitude: float
    length: float
    noise: float


def distances(a: NDArray[Float], b: NDArray[Float]) -> NDArray[Float]:
    """`(n, m)` Euclidean distances of the rows of `a (n, d)` and `b (m, d)`."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)
    squares -= 2.0 * (a @ b.T)
    np.maximum(squares, 0.0, out=squares)
    return np.asarray(np.sqrt(squares, out=squares))


def matern(distances: NDArray[Float], length: float) -> NDArray[Float]:
    """The Matérn 5/2 correlation at `distances`; Rasmussen and Williams 2006, equation 4.17."""
    scaled = distances * float(np.sqrt(5.0) / length)
    rising = 1.0 + scaled
    rising += scaled * scaled / 3.0
    np.negative(scaled, out=scaled)
    return np.asarray(np.multiply(rising, np.exp(scaled, out=scaled), out=rising))
