"""Extensions by where they are: `package.module:Name`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TypeVar

from nas.core.errors import InvalidInputError

T = TypeVar("T")


def is_path(name: str) -> bool:
    """Whether `name` says where something is, instead of naming something built in."""
    return ":" in name


def imported(field: str, path: str, kind: type[T]) -> type[T]:
    """The class at `package.module:Name`; the working folder is looked through, too.

    Runs the module's code: whoever takes paths from a network must know them beforehand.

    Raises:
        InvalidInputError: no such module or name, or no subclass of `kind`; the module failed.
    """
    module, _, name = path.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # last, so that no file there hides what is installed
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        expected = f"package.module:Name that can be imported ({type(error).__name__}: {error})"
        raise InvalidInputError(field, path, expected) from error
    if not isinstance(found, type) or not issubclass(found, kind):
        raise InvalidInputError(field, path, f"a subclass of {kind.__module__}.{kind.__name__}")
    if missing := sorted(getattr(found, "__abstractmethods__", ())):
        raise InvalidInputError(field, path, f"a class with {', '.join(missing)} written")
    return found
