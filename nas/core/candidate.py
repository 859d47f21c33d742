"""Candidates, one at a time and as integer matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Value = bool | int | float | str
"""What an option of a decision may be."""

Genotypes = NDArray[np.int16]
"""`(n, d)` option indices, one row a candidate, one column a decision; -1 where inactive."""


@dataclass(frozen=True)
class Candidate:
    """One point of a space, for people and for JSON; populations are `Genotypes`.

    Attributes:
        values: the chosen option of every active decision, parents first.
        key: 16 hexadecimal digits; equal networks have equal keys.
    """

    values: Mapping[str, Value]
    key: str

    def __hash__(self) -> int:
        return hash(self.key)
