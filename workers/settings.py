"""What settings that a user gives by name have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from nas.core import InvalidInputError, UnknownNameError


@dataclass(frozen=True)
class Settings:
    """Fields with defaults; errors name them `owner.field`.

    Attributes:
        owner: the job's field these are the settings of.
    """

    owner: ClassVar[str]

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """Read settings from JSON.

        Raises:
            InvalidInputError: a setting that does not exist, a value it cannot have, or settings
                that make no sense together.
        """
        known = {f.name: type(f.default) for f in fields(cls)}
        for name, value in options.items():
            if name not in known:
                raise UnknownNameError(cls.owner, name, known)
            kinds = (int, float) if known[name] is float else (known[name],)
            if not isinstance(value, kinds) or isinstance(value, bool) != (known[name] is bool):
                raise InvalidInputError(f"{cls.owner}.{name}", value, f"a {known[name].__name__}")
        return cls(**options)

    def _require_words(self) -> None:
        """Fields annotated `Literal` have one of its words."""
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise UnknownNameError(f"{self.owner}.{name}", getattr(self, name), get_args(kind))

    def _require(self, names: Sequence[str], least: float, most: float) -> None:
        for name in names:
            value = getattr(self, name)
            if not least <= value <= most:
                expected = f"from {least:g} to {most:g}"
                raise InvalidInputError(f"{self.owner}.{name}", value, expected)
