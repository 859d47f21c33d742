"""Settings as people type them: `name=value`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
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


def parsed_if_given(field: str, texts: Sequence[str] | None) -> dict[str, Any] | None:
    """The same; None where the option was not given at all.

    Raises:
        InvalidInputError: not of the form name=value.
    """
    return None if texts is None else parsed(field, texts)


def read_json(field: str, path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InvalidInputError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInputError(field, str(path), f"a JSON file ({error})") from error


def check_writable(field: str, path: Path) -> None:
    """Make sure that a file can be written, without touching it.

    Raises:
        InvalidInputError: it is a folder, lies in none, or may not be written.
    """
    place = path.resolve()
    if place.is_dir() or not place.parent.is_dir():
        raise InvalidInputError(field, str(path), "a file in a folder that exists")
    if not os.access(place if place.exists() else place.parent, os.W_OK):
        raise InvalidInputError(field, str(path), "a file that may be written")
