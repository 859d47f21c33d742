"""Tables of one's own: genotypes and metrics in an `.npz` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import Decision, Genotypes, InvalidInputError, SearchSpace, UnknownNameError
from searchspaces.tabular._base import TabularBenchmark, nothing, opened

GENOTYPES, DECISIONS, ORDERED, FREE = (
    "genotypes",
    "decisions",
    "ordered",
    "free",
)
INACTIVE_OPTION = "none"


def read_table(path: Path) -> TabularBenchmark:
    """A benchmark from an `.npz` file.

    It holds `genotypes (n, d)` of option indices (-1 where a decision does not exist),
    `decisions (d,)` names, and any number of `(n,)` metric columns. It may hold `ordered (d,)`
    booleans (whether neighbouring options are alike; default no) and `free (k,)`, names of the
    metrics known without training.

    Raises:
        InvalidInputError: the file is missing, an array has the wrong shape or kind, a candidate
            stands twice, or a metric is not a finite number.
    """
    arrays = dict(opened(path))
    for name in (GENOTYPES, DECISIONS):
        if name not in arrays:
            raise InvalidInputError(f"space {path.name}", sorted(arrays), f"an array {name}")
    genotypes, names = arrays.pop(GENOTYPES), arrays.pop(DECISIONS)
    _check(genotypes, names, path)
    ordered = arrays.pop(ORDERED, np.zeros(len(names), dtype=np.bool_))
    if ordered.shape != names.shape:
        raise InvalidInputError(f"{path.name}: {ORDERED}", ordered.shape, f"shape {names.shape}")
    free = tuple(str(name) for name in arrays.pop(FREE, np.array([], dtype=str)))
    columns = {name: _column(path, name, v, len(genotypes)) for name, v in arrays.items()}
    if not columns:
        raise InvalidInputError(f"space {path.name}", [], "at least one metric column")
    for name in free:
        if name not in columns:
            raise UnknownNameError(f"{path.name}: {FREE}", name, columns)
    space, rows = _space(genotypes, [str(n) for n in names], ordered)
    if len(np.unique(space.keys(rows))) < len(rows):
        raise InvalidInputError(f"{path.name}: {GENOTYPES}", "repeats", "each candidate only once")
    return TabularBenchmark(f"table:{path}", space, rows, columns, free, nothing)


def write_table(
    path: Path,
    space: SearchSpace,
    rows: Genotypes,
    columns: Mapping[str, NDArray[np.float64]],
    free: tuple[str, ...] = (),
) -> None:
    """Write what `read_table` reads."""
    arrays: dict[str, NDArray] = {name: np.asarray(values) for name, values in columns.items()}
    arrays[GENOTYPES] = space.canonical(rows)
    arrays[DECISIONS] = np.array(space.names)
    arrays[ORDERED] = np.array([d.ordered for d in space.decisions])
    arrays[FREE] = np.array(free, dtype=str)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _check(genotypes: NDArray, names: NDArray, path: Path) -> None:
    where = f"{path.name}: {GENOTYPES}"
    if genotypes.ndim != 2 or not len(genotypes):
        raise InvalidInputError(where, genotypes.shape, "shape (n, d), n at least 1")
    if not np.issubdtype(genotypes.dtype, np.integer):
        raise InvalidInputError(where, str(genotypes.dtype), "whole numbers")
    if names.shape != genotypes.shape[1:] or names.dtype.kind not in "US":
        raise InvalidInputError(
            f"{path.name}: {DECISIONS}", names.shape, f"{genotypes.shape[1]} names"
        )
    if genotypes.min() < -1 or genotypes.max() > np.iinfo(np.int16).max - 1:
        raise InvalidInputError(where, int(genotypes.min()), "option indices from 0 (or -1)")


def _column(path: Path, name: str, values: NDArray, n: int) -> NDArray[np.float64]:
    where = f"{path.name}: {name}"
    if values.shape != (n,):
        raise InvalidInputError(where, values.shape, f"shape ({n},), one value a genotype")
    if not (np.issubdtype(values.dtype, np.number) or values.dtype == np.bool_):
        raise InvalidInputError(where, str(values.dtype), "numbers")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidInputError(where, "nan or infinite", "finite numbers")
    return values


def _space(genotypes: NDArray, names: list[str], ordered: NDArray) -> tuple[SearchSpace, Genotypes]:
    """Decisions with options 0, 1, …; one that may be absent has the option `none` first."""
    decisions, columns = [], []
    for column, name, in_order in zip(genotypes.T, names, ordered, strict=True):
        absent = bool((column < 0).any())
        options: list[int | str] = [INACTIVE_OPTION] if absent else []
        options += range(int(column.max()) + 1)
        decisions.append(Decision(name, tuple(options), ordered=bool(in_order) and not absent))
        columns.append(column + absent)
    return SearchSpace(tuple(decisions)), np.stack(columns, axis=1).astype(np.int16)
