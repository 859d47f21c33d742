"""Spaces made differentiable: networks that are mixtures of all their candidates."""

from searchspaces.relaxed._base import Mix, RelaxedNetwork
from searchspaces.relaxed.cells import RelaxedCells

__all__ = ["Mix", "RelaxedCells", "RelaxedNetwork"]
