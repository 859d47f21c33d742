"""Families of networks: spaces, networks, costs, compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core import UnknownNameError
from nas.core.importing import imported, is_path
from searchspaces._base import ModelFamily, Part, Supernet
from searchspaces.cells.family import CellFamily
from searchspaces.compression.pruning import Importance
from searchspaces.mobilenet import MobileNetFamily
from searchspaces.traced import TracedFamily

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
    "Part",
    "Supernet",
    "TracedFamily",
    "family",
]


def family(
    name: str,
    input_shape: tuple[int, int, int],
    n_classes: int,
    options: Mapping[str, object] | None = None,
) -> ModelFamily:
    """The family of that name, for images of `input_shape` and `n_classes` classes.

    Args:
        name: one of `FAMILIES`, or `package.module:Name` of a family of your own, a class that is
            made of the other three.
        input_shape: `(channels, height, width)`.
        n_classes: number of logits.
        options: what narrows the space.

    Raises:
        UnknownNameError: no such family.
        InvalidInputError: options or shapes it cannot have.
    """
    if is_path(name):
        own: Any = imported("space", name, ModelFamily)
        made: ModelFamily = own(input_shape, n_classes, options)
        return made
    if name not in FAMILIES:
        raise UnknownNameError("space", name, FAMILIES)
    return FAMILIES[name](input_shape, n_classes, options)
