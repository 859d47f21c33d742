"""A job as the store knows it: its specification is opaque JSON here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """Where a job stands. `interrupted` and `failed` jobs can be resumed."""

    CREATED = "created"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """One search a user submitted.

    Attributes:
        job_id: opaque and unique in its store.
        name: for people, not unique.
        spec: the specification as validated JSON; never changes.
        state: where it stands.
        message: why it stands there, for people.
        created_at: seconds since the epoch.
    """

    job_id: str
    name: str
    spec: Mapping[str, Any]
    state: JobState
    message: str
    created_at: float
