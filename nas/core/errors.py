"""Every error a user or an extension can meet.

NasError
├── InvalidInputError (ValueError)      something the caller gave is wrong; nothing was started
│   ├── UnknownNameError (LookupError)  no space, strategy, metric, device … of that name
│   └── InfeasibleError                 constraints that no candidate can meet
├── NotFoundError (LookupError)         no such job, trial or artifact
├── ConflictError (RuntimeError)        the state forbids it (finished twice, resumed while running)
├── StoreError (RuntimeError)           the database refused or could not be reached
├── EvaluationError (RuntimeError)      a trial's own work went wrong
│   └── OutOfSpaceError                 the disk for its files is full; it is waited for
├── WorkerLostError (RuntimeError)      the process or machine that ran a trial is gone
└── ClusterLostError (RuntimeError)     all of them are; the job can go on elsewhere
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasError(Exception):
    """Root of all errors raised on purpose by this project."""


class InvalidInputError(NasError, ValueError):
    """One wrong input: which field, what it was, and what would be right.

    Attributes:
        field: the name the user knows the input by, for example `budget.trials`.
        value: what was given.
        expected: what would be right, in words.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(field, value, expected)
        self.field = field
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.field}: {self.value!r} is not usable: {self.expected}"


class UnknownNameError(InvalidInputError, LookupError):
    """A name nothing is registered under; the message lists the names there are."""

    def __init__(self, field: str, value: object, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(str(value), names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        super().__init__(field, value, f"{hint}known: {', '.join(names) or 'none'}")

    def __reduce__(self) -> tuple[object, ...]:
        return InvalidInputError, (self.field, self.value, self.expected)


class InfeasibleError(InvalidInputError):
    """Constraints that nothing in the space can meet; says the nearest value that something can."""


class NotFoundError(NasError, LookupError):
    """The job, trial or artifact asked for does not exist."""

    def __init__(self, kind: str, identifier: object) -> None:
        super().__init__(kind, identifier)
        self.kind = kind
        self.identifier = identifier

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.identifier!r}"


class ConflictError(NasError, RuntimeError):
    """The present state forbids the call, for example finishing a trial twice."""


class StoreError(NasError, RuntimeError):
    """The database refused or could not be reached."""


class EvaluationError(NasError, RuntimeError):
    """A trial's own work went wrong; recorded on the trial, never fatal to the job."""


class OutOfSpaceError(EvaluationError):
    """The disk for a trial's files is full; whoever runs the trial waits and runs it again."""


class WorkerLostError(NasError, RuntimeError):
    """The process or machine that ran a trial died; recorded on the trial after the retries."""


class ClusterLostError(NasError, RuntimeError):
    """What ran all trials of a job is gone for good; the job is interrupted and can be resumed."""
