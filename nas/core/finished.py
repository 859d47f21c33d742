"""The finished trials of a job as columns: what fronts and traces of a million are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nas.core.trial import Fidelity

NO_FIDELITY = -1
"""Rank of shared training."""

Row = tuple[int, float, int, bool, int, float, Mapping[str, float]]
"""Sequence, time, number, whether completed, rank, effort and metrics of one finished trial."""


@dataclass(frozen=True)
class Finished:
    """Finished trials in finish order, `n` of them.

    Attributes:
        sequence: `(n,)` of the events that finished them.
        at: `(n,)` when, seconds since the epoch.
        number: `(n,)` of the trials.
        completed: `(n,)` whether the trial completed; else it failed.
        rank: `(n,)` of its fidelity; -1 for shared training.
        effort: `(n,)` share of the fidelity's full work.
        metrics: `(n,)` by name; nan where a trial lacks it.
    """

    sequence: NDArray[np.int64]
    at: NDArray[np.float64]
    number: NDArray[np.int64]
    completed: NDArray[np.bool_]
    rank: NDArray[np.int8]
    effort: NDArray[np.float64]
    metrics: Mapping[str, NDArray[np.float64]]

    @classmethod
    def of(cls, rows: Iterable[Row], metrics: Sequence[str]) -> Self:
        """The columns of `rows`, in their order; of their metrics those named."""
        flat = ((*row, *(values.get(m, np.nan) for m in metrics)) for *row, values in rows)
        table = np.fromiter(flat, np.dtype("i8,f8,i8,?,i1,f8" + ",f8" * len(metrics)))
        columns = [table[f"f{i}"].copy() for i in range(6 + len(metrics))]
        sequence, at, number, completed, rank, effort, *named = columns
        values = dict(zip(metrics, named, strict=True))
        return cls(sequence, at, number, completed, rank, effort, values)

    def __len__(self) -> int:
        return len(self.number)

    @property
    def last(self) -> int:
        """Sequence number of the last event; 0 where there is none."""
        return int(self.sequence[-1]) if len(self) else 0

    def scored(self, fidelity: Fidelity) -> NDArray[np.int64]:
        """Positions of the evaluations completed at `fidelity` with full effort."""
        whole = self.completed & (self.effort == 1.0)
        return np.flatnonzero(whole & (self.rank == fidelity.rank))

    def columns(self, at: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """`(k,)` metrics by name of the trials at positions `at (k,)`."""
        return {name: column[at] for name, column in self.metrics.items()}

    def then(self, later: Finished) -> Finished:
        """These, and `later` ones of the same job and metrics."""
        return Finished(
            sequence=np.concatenate([self.sequence, later.sequence]),
            at=np.concatenate([self.at, later.at]),
            number=np.concatenate([self.number, later.number]),
            completed=np.concatenate([self.completed, later.completed]),
            rank=np.concatenate([self.rank, later.rank]),
            effort=np.concatenate([self.effort, later.effort]),
            metrics={m: np.concatenate([c, later.metrics[m]]) for m, c in self.metrics.items()},
        )
