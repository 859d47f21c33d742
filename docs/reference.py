"""Writes `docs/api.md` from the docstrings of what users and extensions call: `make docs`."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum, EnumType
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

MODULES = """nas nas.client nas.core nas.strategies:STRATEGIES,SearchContext,make_strategy
nas.stores searchspaces predictors.registry:predictor,default predictors.learners:LEARNERS,learner
workers.datasets:Dataset,load_dataset workers.executors workers.runtimes:RUNTIMES,profiler"""
"""With the names that are told; all of `__all__` where there are none."""


def page() -> str:
    """The whole reference."""
    blocks = ["# Python reference\n\nThe docstrings, written down by `make docs`."]
    for name, _, chosen in (word.partition(":") for word in MODULES.split()):
        module = import_module(name)
        blocks += [f"## `{name}`", text(module.__doc__)]
        for public in chosen.split(",") if chosen else sorted(module.__all__):
            blocks += described(module, public) if public[0] != "_" else []
    return "\n\n".join(block for block in blocks if block) + "\n"


def described(module: Any, name: str) -> Iterator[str]:
    """Heading, signature, docstring, and for a class the same of its methods."""
    found = getattr(module, name)
    yield f"### `{name}`"
    if not inspect.isclass(found) and not inspect.isfunction(found):
        yield constant(module, name)
        return
    if not inspect.isclass(found) or not issubclass(found, (Enum, Exception)):
        whole = f"{'class' if inspect.isclass(found) else 'def'} {name}{signature(found)}"
        wrapped = textwrap.fill(whole, 100, subsequent_indent="    ", break_on_hyphens=False)
        yield f"```python\n{wrapped}\n```"
    yield text(found.__doc__)
    if isinstance(found, EnumType):
        yield "Values: " + ", ".join(f"`{member.value}`" for member in found) + "."
    for key, member in vars(found).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not key.startswith("_") and inspect.isfunction(function):
            of = "" if isinstance(member, property) else signature(getattr(found, key))
            yield f"- `{key}{of}`\n\n{textwrap.indent(text(function.__doc__), '  ')}"


def signature(found: Any) -> str:
    """Parameters and what is returned, annotations as they were written."""
    said = re.sub(r"<function (\w+) at \w+>", r"\1", str(inspect.signature(found)))
    said = re.sub(r"\(self(, )?", "(", re.sub(r"PosixPath\((.*?)\)", r"\1", said))
    return re.sub(r"""(: |-> )(["'])(.*?)\2""", r"\1\3", said)


def text(docstring: str | None) -> str:
    """A docstring as Markdown: code stays indented, sections of Google style become lists."""
    body = inspect.cleandoc(docstring or "")
    for title, lines in re.findall(r"^(\w+):\n((?:    .*\n?|\n)+)", body, re.MULTILINE):
        items = re.sub(r"(?m)^(\*?\w+): ", r"- `\1`: ", textwrap.dedent(lines).strip())
        body = body.replace(f"{title}:\n{lines}", f"{title}:\n\n{items}\n\n").rstrip()
    return body


def constant(module: Any, name: str) -> str:
    """The string below the assignment of a name, wherever it is imported from, else its code."""
    for node, after in pairwise(ast.parse(inspect.getsource(module)).body):
        if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
            return constant(import_module(node.module or ""), name)
        if re.match(rf"{name}(:.*)? = ", ast.unparse(node)):
            return getattr(getattr(after, "value", None), "value", f"`{ast.unparse(node)}`")
    return ""


if __name__ == "__main__":
    Path(__file__).with_name("api.md").write_text(page())
