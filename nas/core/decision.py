"""One named choice of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from nas.core.candidate import Value
from nas.core.errors import InvalidInputError

MAX_OPTIONS = 32_767


@dataclass(frozen=True)
class Condition:
    """A decision exists only where decision `parent` has one of `values`."""

    parent: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Decision:
    """A named choice among finite options, listed in their natural order.

    Attributes:
        name: unique in its space; parts are joined by dots (`stage1.kernel`).
        options: two options are never equal; numbers stand in rising order when `ordered`.
        condition: when the decision exists at all; None means always.
        ordered: whether neighbouring options are alike (widths are, operators are not).

    Raises:
        InvalidInputError: no options, repeated or unordered options, or a name that is empty.
    """

    name: str
    options: tuple[Value, ...]
    condition: Condition | None = None
    ordered: bool = True

    def __post_init__(self) -> None:
        if not self.name:
            raise InvalidInputError("decision.name", self.name, "a name that is not empty")
        if not 0 < len(self.options) <= MAX_OPTIONS:
            raise InvalidInputError(
                f"decision {self.name}.options", self.options, f"1 to {MAX_OPTIONS} options"
            )
        if len(set(self.options)) < len(self.options):
            raise InvalidInputError(f"decision {self.name}.options", self.options, "no repeats")
        if self.ordered and self.numeric and list(self.options) != sorted(self.options):
            raise InvalidInputError(f"decision {self.name}.options", self.options, "rising numbers")

    @property
    def numeric(self) -> bool:
        """Whether every option is a number (booleans count as numbers)."""
        return all(isinstance(option, (bool, int, float)) for option in self.options)

    def renamed(self, prefix: str) -> Self:
        """The same decision with `prefix.` before its own and its parent's name."""
        condition = self.condition
        if condition is not None:
            condition = replace(condition, parent=f"{prefix}.{condition.parent}")
        return replace(self, name=f"{prefix}.{self.name}", condition=condition)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal decision."""
        body: dict[str, Any] = {"name": self.name, "options": list(self.options)}
        if self.condition is not None:
            body["condition"] = {
                "parent": self.condition.parent,
                "values": list(self.condition.values),
            }
        if not self.ordered:
            body["ordered"] = False
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: the object has not this form.
        """
        try:
            condition = body.get("condition")
            return cls(
                name=str(body["name"]),
                options=tuple(body["options"]),
                condition=condition
                and Condition(str(condition["parent"]), tuple(condition["values"])),
                ordered=bool(body.get("ordered", True)),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError("decision", body, "an object {name, options, …}") from error
