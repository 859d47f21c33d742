"""Options of families: read from JSON and checked, each by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

from nas.core import InvalidInputError
from searchspaces.layers import FLOAT_BITS

BITS = (*range(2, 9), FLOAT_BITS)


@dataclass(frozen=True)
class Options(ABC):
    """What a space offers.

    Attributes:
        weight_bits: 2 to 8, or 32 (float).
        activation_bits: 2 to 8, or 32, where weights are quantized.
        symmetric: whether weight codes lie around zero, where steps are per tensor.
    """

    weight_bits: tuple[int, ...] = (4, 8, 32)
    activation_bits: tuple[int, ...] = (4, 8, 32)
    symmetric: tuple[bool, ...] = (True,)

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> Self:
        """Read options from JSON: lists for tuples.

        Raises:
            InvalidInputError: an option that does not exist, or a value it cannot have.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise refused(name, options[name], f"options are {', '.join(known)}")
        parsed = cls(**{name: _tuples(value) for name, value in options.items()})  # type: ignore[arg-type]
        for name in ("weight_bits", "activation_bits"):
            check_list(name, getattr(parsed, name), lambda v: v in BITS, "of 2 to 8, or 32")
        check_list("symmetric", parsed.symmetric, lambda v: v in (0, 1), "false, true")
        parsed.check()
        return parsed

    @abstractmethod
    def check(self) -> None:
        """Refuse what a family's own options cannot be.

        Raises:
            InvalidInputError: a value that one cannot have.
        """


def refused(name: str, value: object, expected: str) -> InvalidInputError:
    """The error for option `name`."""
    return InvalidInputError(f"space.options.{name}", value, expected)


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Refuse all but whole numbers from `low` to `high`."""
    if type(value) is not int or not low <= value <= high:
        raise refused(name, value, f"a whole number from {low} to {high}")


def check_list(
    name: str,
    values: object,
    accept: Callable[[float], bool],
    expected: str,
    kind: type[float] = int,
) -> None:
    """Refuse all but lists of rising numbers that `accept` takes."""
    numbers = (int, float) if kind is float else (int,)
    good = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not good or not all(isinstance(v, numbers) and accept(v) for v in values):  # type: ignore[attr-defined]
        raise refused(name, values, f"a list that is not empty, {expected}")
    if list(values) != sorted(set(values)):  # type: ignore[call-overload]
        raise refused(name, values, "rising values without repeats")


def check_texts(name: str, values: object, expected: str) -> None:
    """Refuse all but lists of texts without repeats."""
    good = isinstance(values, tuple) and values and all(isinstance(v, str) for v in values)
    if not good or len(set(values)) < len(values):  # type: ignore[call-overload, arg-type]
        raise refused(name, values, f"a list without repeats, of {expected}")


def _tuples(value: object) -> object:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value
