"""Where a network halves its feature map, by the size of the images."""

from __future__ import annotations

from collections.abc import Sequence

from nas.core import InvalidInputError

MIN_RESOLUTION = 4
"""Pixels a side that the last map keeps."""


def check_task(input_shape: tuple[int, int, int], n_classes: int) -> None:
    """Refuse what no network of a family could classify.

    Raises:
        InvalidInputError: images too small, or fewer than two classes.
    """
    if min(input_shape[1:]) < MIN_RESOLUTION:
        raise InvalidInputError("input shape", input_shape, "images of at least 4x4 pixels")
    if n_classes < 2:
        raise InvalidInputError("classes", n_classes, "at least two classes")


def adapted_strides(input_shape: tuple[int, int, int], order: Sequence[int]) -> tuple[int, ...]:
    """Stride by place; halvings are spent on places as `order` lists them.

    There are as many as leave the last map 4 pixels a side, at most one a place.
    """
    side, n_halvings = min(input_shape[1:]), 0
    while -(-side // 2) >= MIN_RESOLUTION:
        side, n_halvings = -(-side // 2), n_halvings + 1
    halved = set(order[:n_halvings])
    return tuple(2 if i in halved else 1 for i in range(len(order)))


def map_pixels(input_shape: tuple[int, int, int], strides: Sequence[int]) -> tuple[int, ...]:
    """Positions of the feature map after each stride."""
    height, width = input_shape[1:]
    out = []
    for stride in strides:
        height, width = -(-height // stride), -(-width // stride)
        out.append(height * width)
    return tuple(out)
