"""Families of networks: spaces, networks, costs, compression."""

from __future__ import annotations

from collections.abc import Mapping

from nas.core import UnknownNameError
from searchspaces._base import ModelFamily, Supernet
from searchspaces.cells.family import CellFamily
from searchspaces.compression.pruning import Importance
from searchspaces.mobilenet import MobileNetFamily

FAMILIES: Mapping[str, type[MobileNetFamily] | type[CellFamily]] = {
    "cells": CellFamily,
    "mobilenet": MobileNetFamily,
}

__all__ = [
    "CellFamily",
    "FAMILIES",
    "Importance",
    "MobileNetFamily",
    "ModelFamily",
    "Supernet",
    "family",
]


def family(
    name: str,
    input_shape: tuple[int, int, int],
    n_classes: int,
    options: Mapping[str, object] | None = None,
) -> ModelFamily:
    """The family of that name, for images of `input_shape` and `n_classes` classes.

    Raises:
        UnknownNameError: no such family.
        InvalidInputError: options or shapes it cannot have.
    """
    if name not in FAMILIES:
        raise UnknownNameError("space", name, FAMILIES)
    return FAMILIES[name](input_shape, n_classes, options)
