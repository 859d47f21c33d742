"""What a benchmark read from a table can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import CostTable, Genotypes, InvalidInputError, SearchSpace
from nas.core.graphs import Graphing

Describe = Callable[[Genotypes], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class TabularBenchmark:
    """A space, and what every candidate of it scored.

    Attributes:
        name: of the benchmark.
        space: rows that are not in the table are not candidates: see `known`.
        genotypes: `(n, d)` canonical rows of the table.
        columns: `(n,)` values by metric name.
        free: metrics known without training or measuring anything: parameters, zero-cost scores.
        describe: `(n,)` structural features by name for `(n, d)` rows.
        described: decisions of which a predictor learns more from those features than from the
            options themselves.
        graphs: `(n, d)` rows as graphs; None where the space's cell says it, or none are known.
    """

    name: str
    space: SearchSpace
    genotypes: Genotypes
    columns: Mapping[str, NDArray[np.float64]]
    free: tuple[str, ...]
    describe: Describe
    described: tuple[str, ...] = ()
    graphs: Graphing | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.columns)

    def index(self, rows: Genotypes) -> NDArray[np.int64]:
        """`(n,)` where each of `(n, d)` rows stands in the table; -1 where it does not."""
        keys, order = self._keys
        wanted = self.space.keys(rows)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, order[place], -1)

    def known(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` whether each of `(n, d)` rows is in the table."""
        return self.index(rows) >= 0

    def lookup(self, rows: Genotypes) -> CostTable:
        """`(n,)` column per metric for `(n, d)` rows; nan for rows that are not in the table."""
        return self._columns(rows, self.metrics)

    def costs(self, rows: Genotypes) -> CostTable:
        """The free metrics of `(n, d)` rows."""
        return self._columns(rows, self.free)

    def descriptors(self, rows: Genotypes) -> CostTable:
        """What a predictor may see beside the genotype: free metrics and structure."""
        return {**self.costs(rows), **self.describe(rows)}

    def _columns(self, rows: Genotypes, names: tuple[str, ...]) -> CostTable:
        index = self.index(rows)
        return {m: np.where(index >= 0, self.columns[m][index], np.nan) for m in names}

    @cached_property
    def _keys(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        keys = self.space.keys(self.genotypes)
        order = np.argsort(keys)
        return keys[order], order


def opened(path: Path) -> Mapping[str, NDArray]:
    """Arrays of an `.npz` file by name.

    Raises:
        InvalidInputError: no such file, or not an `.npz` of plain arrays.
    """
    if not path.is_file():
        raise InvalidInputError(
            "space", str(path), "a file that exists (NAS_DATA names its folder)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise InvalidInputError("space", str(path), "an .npz file of plain arrays") from error


def nothing(rows: Genotypes) -> dict[str, NDArray[np.float64]]:
    """No structural features beside those of the space's cell, if it has one."""
    return {}
