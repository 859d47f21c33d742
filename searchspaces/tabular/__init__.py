"""Spaces whose every candidate was measured once: published benchmarks, and tables of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from nas.core import UnknownNameError
from searchspaces.tabular._base import TabularBenchmark
from searchspaces.tabular.nasbench101 import nasbench101
from searchspaces.tabular.nasbench201 import nasbench201
from searchspaces.tabular.table import read_table, write_table

__all__ = ["TABLES", "TabularBenchmark", "read_table", "tabular_benchmark", "write_table"]

TABLES: Mapping[str, Callable[[Path], TabularBenchmark]] = {
    "nasbench101": nasbench101,
    "nasbench201": nasbench201,
}
"""Readers of the published benchmarks, each from its file in a data folder."""

PREFIX = "table:"


@lru_cache(maxsize=2)
def tabular_benchmark(name: str, folder: Path) -> TabularBenchmark:
    """`nasbench101`, `nasbench201`, or `table:PATH` for a table of one's own.

    Args:
        name: which.
        folder: where the published benchmarks' files lie.

    Raises:
        UnknownNameError: none of these.
        InvalidInputError: the file is missing, or is not what it should be.
    """
    if name.startswith(PREFIX):
        return read_table(Path(name.removeprefix(PREFIX)))
    if name not in TABLES:
        raise UnknownNameError("space", name, [*TABLES, f"{PREFIX}PATH.npz"])
    return TABLES[name](folder)
