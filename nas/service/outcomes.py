"""Finished trials as columns, of which tables and plots are made: frozen, or growing with a log."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dashboard.series import front_history, hypervolumes
from nas.core import Candidate, Evaluate, Fidelity, Goals, Trial, TrialState
from nas.core.candidate import Value
from nas.core.trial import TrainShared
from nas.service.sharing import Shared

FIDELITIES = tuple(Fidelity)
ABSENT = -1


@dataclass(frozen=True)
class Outcomes:
    """Finished trials in finish order; `n` of them. Arrays must not be written to.

    Attributes:
        sequence: of the last event in it.
        number, at, seconds, effort: `(n,)`; `at` in seconds since the epoch.
        completed: `(n,)` whether the trial completed; else it failed.
        fidelity: `(n,)` its rank; -1 for shared training.
        keys: of the candidates; the method for shared training.
        errors: by position, of failed ones.
        metrics: `(n,)` by name; nan where a trial lacks it.
        decisions: `(n,)` position in `options` by name; -1 where inactive.
        options: values met so far, by decision.
        shared: what was worked out from these trials, for as long as they are the newest.
    """

    sequence: int
    number: NDArray[np.int64]
    at: NDArray[np.float64]
    seconds: NDArray[np.float64]
    effort: NDArray[np.float64]
    completed: NDArray[np.bool_]
    fidelity: NDArray[np.int64]
    keys: Sequence[str]
    errors: Mapping[int, str]
    metrics: Mapping[str, NDArray[np.float64]]
    decisions: Mapping[str, NDArray[np.int64]]
    options: Mapping[str, Sequence[Value]]
    shared: Shared = field(default_factory=Shared, repr=False)

    def __len__(self) -> int:
        return len(self.number)

    def scored(self, fidelity: Fidelity) -> NDArray[np.int64]:
        """Positions of those completed at `fidelity` with full effort."""
        whole = self.completed & (self.effort == 1.0)
        return np.flatnonzero(whole & (self.fidelity == fidelity.rank))

    @cached_property
    def scores(self) -> dict[Fidelity, int]:
        """How many are scored at each fidelity that has any."""
        counts = {f: len(self.scored(f)) for f in FIDELITIES}
        return {f: n for f, n in counts.items() if n}

    @cached_property
    def searched(self) -> Fidelity | None:
        """The fidelity the search itself scored most trials at; None before the first."""
        found = {f: self.scores.get(f, 0) for f in (Fidelity.INHERITED, Fidelity.TRAINED)}
        best = max(found, key=lambda f: found[f])
        return best if found[best] else None

    def losses(
        self, goals: Goals, at: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(m, k)` losses and `(m,)` violations of the trials at positions `at (m,)`."""
        missing = np.full(len(at), np.nan)
        columns = {m: self.metrics[m][at] if m in self.metrics else missing for m in goals.metrics}
        return goals.losses(columns), goals.violations(columns, len(at))

    def history(self, goals: Goals) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """`(n,)` who was ever on its fidelity's front, and `(n,)` the position that ended it.

        The latter is n for those that are on it still.
        """
        return self.shared.once(("history", goals), lambda: self._history(goals))

    def trace(self, goals: Goals) -> NDArray[np.float64]:
        """Hypervolume after each search trial; see `dashboard.series.hypervolumes`."""
        at = self.scored(self.searched) if self.searched else np.empty(0, dtype=np.int64)
        return self.shared.once(("trace", goals), lambda: hypervolumes(*self.losses(goals, at)))

    def _history(self, goals: Goals) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        entered, left = np.zeros(len(self), np.bool_), np.full(len(self), len(self))
        for fidelity in self.scores:
            at = self.scored(fidelity)
            came, went = front_history(*self.losses(goals, at))
            entered[at], left[at] = came, np.append(at, len(self))[went]
        return entered, left

    def trial(self, i: int) -> Trial:
        """The trial at position `i`, without provenance and artifacts."""
        state = TrialState.COMPLETED if self.completed[i] else TrialState.FAILED
        known = {m: float(column[i]) for m, column in self.metrics.items()}
        return Trial(
            number=int(self.number[i]),
            task=Evaluate(
                Candidate(self.values(i), self.keys[i]),
                FIDELITIES[self.fidelity[i]],
                float(self.effort[i]),
            )
            if self.fidelity[i] >= 0
            else TrainShared(self.keys[i], 0),
            state=state,
            metrics={m: v for m, v in known.items() if not np.isnan(v)},
            error=self.errors.get(i),
            seconds=float(self.seconds[i]),
        )

    def values(self, i: int) -> dict[str, Value]:
        """Decisions of the trial at position `i`."""
        codes = {name: int(column[i]) for name, column in self.decisions.items()}
        return {name: self.options[name][code] for name, code in codes.items() if code >= 0}


@dataclass
class Growing:
    """The same, while it grows with the log; `codes` are positions of values by decision."""

    sequence: int = 0
    number: array[int] = field(default_factory=lambda: array("q"))
    at: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    effort: array[float] = field(default_factory=lambda: array("d"))
    completed: array[int] = field(default_factory=lambda: array("b"))
    fidelity: array[int] = field(default_factory=lambda: array("q"))
    keys: list[str] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    metrics: dict[str, array[float]] = field(default_factory=dict)
    decisions: dict[str, array[int]] = field(default_factory=dict)
    codes: dict[str, dict[Value, int]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.number)

    def add(self, trial: Trial, at: float) -> None:
        """Append a finished trial."""
        n = len(self)
        self.number.append(trial.number)
        self.at.append(at)
        self.seconds.append(trial.seconds)
        self.effort.append(trial.effort)
        self.completed.append(trial.state is TrialState.COMPLETED)
        self.fidelity.append(ABSENT if trial.fidelity is None else trial.fidelity.rank)
        if trial.error is not None:
            self.errors[n] = trial.error
        candidate = trial.candidate
        method = trial.task.method if isinstance(trial.task, TrainShared) else ""
        self.keys.append(candidate.key if candidate else method)
        _extend(self.metrics, trial.metrics, n, np.nan, "d")
        coded = {}
        for name, value in (candidate.values if candidate else {}).items():
            known = self.codes.get(name)
            if known is None:
                known = self.codes[name] = {}
            code = known.get(value)
            coded[name] = known.setdefault(value, len(known)) if code is None else code
        _extend(self.decisions, coded, n, ABSENT, "q")

    def frozen(self) -> Outcomes:
        """A copy that stays as it is."""
        return Outcomes(
            sequence=self.sequence,
            number=np.array(self.number),
            at=np.array(self.at),
            seconds=np.array(self.seconds),
            effort=np.array(self.effort),
            completed=np.array(self.completed).astype(np.bool_),
            fidelity=np.array(self.fidelity),
            keys=tuple(self.keys),
            errors=dict(self.errors),
            metrics={name: np.array(column) for name, column in self.metrics.items()},
            decisions={name: np.array(column) for name, column in self.decisions.items()},
            options={name: tuple(codes) for name, codes in self.codes.items()},
        )


def _extend(
    columns: dict[str, Any], values: Mapping[str, Any], n: int, missing: float, code: str
) -> None:
    """Append one row at position `n`; names not met before get a column of `missing` first."""
    for name, value in values.items():
        column = columns.get(name)
        if column is None:
            columns[name] = column = array(code, [missing]) * n
        column.append(value)
    if len(values) < len(columns):
        for name, column in columns.items():
            if name not in values:
                column.append(missing)
