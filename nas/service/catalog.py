"""JSON schemas of what a job may name, from the definitions that check it."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from nas.core import SearchStrategy
from nas.core.importing import imported
from nas.core.trial import DIFFERENTIABLE
from nas.strategies.registry import STRATEGIES, Setting
from searchspaces import FAMILIES, ModelFamily
from workers.differentiable.settings import DifferentiableSettings
from workers.supernet_settings import SupernetSettings


@cache
def space_schemas(allowed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Families of networks; `options` is the JSON schema of what narrows each.

    Args:
        allowed: paths of families, and of other things, that do not come with this package.
    """
    found = []
    for name, family in {**FAMILIES, **_own(allowed, ModelFamily)}.items():
        schema = TypeAdapter(family.options_type).json_schema()
        about = inspect.getdoc(family) or ""
        for field in fields(family.options_type):
            if field.default is not MISSING and field.default is not None:
                schema["properties"][field.name]["default"] = field.default
        found.append(_named(name, about, schema))
    return found


@cache
def strategy_schemas(allowed: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Strategies; `options` is the JSON schema of their settings, which your own know alone.

    Args:
        allowed: paths of strategies, and of other things, that do not come with this package.
    """
    found = []
    for name in sorted(STRATEGIES):
        properties: dict[str, Any] = {}
        for setting, kind in STRATEGIES[name].items():
            if isinstance(kind, Setting):
                number = "integer" if kind.kind is int else "number"
                properties[setting] = {"type": number, "minimum": kind.least, "maximum": kind.most}
            else:
                properties[setting] = {"type": "string"}
        schema = {"type": "object", "properties": properties, "additionalProperties": False}
        found.append(_named(name, "", schema))
    for path, strategy in _own(allowed, SearchStrategy).items():
        found.append(_named(path, inspect.getdoc(strategy) or "", {"type": "object"}))
    return found


@cache
def learning_schemas() -> list[dict[str, Any]]:
    """What may be learned before candidates are tried; `options` is the JSON schema of each."""
    found = []
    for name, kind in (("supernet", SupernetSettings), (DIFFERENTIABLE, DifferentiableSettings)):
        schema = TypeAdapter(kind).json_schema()
        found.append(_named(name, inspect.getdoc(kind) or "", schema))
    return found


def _own(allowed: tuple[str, ...], kind: type[Any]) -> dict[str, Any]:
    """Those of the allowed classes that are of a kind, by path."""
    classes = {path: imported("allow", path, object) for path in allowed}
    return {path: found for path, found in classes.items() if issubclass(found, kind)}


def _named(name: str, about: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "description": about.partition("\n")[0], "options": options}
