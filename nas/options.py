"""Settings as people type them: `name=value`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nas.core import InvalidInputError


def parsed(field: str, texts: Sequence[str] | None) -> dict[str, Any]:
    """`["n_stages=2", "kernels=[3,5]"]` as a mapping; values are JSON.

    Raises:
        InvalidInputError: not of the form name=value.
    """
    options: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        try:
            options[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            equals = ""
        if not equals:
            raise InvalidInputError(field, text, "name=value with a JSON value")
    return options
