"""Devices that measure for a service, and the work that waits for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nas.core.errors import InvalidInputError
from nas.core.profile import Profile

NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,62}\w)?")
FILES = "device_files"
"""Folder, below a workspace, of the files that wait to be timed, each named by its SHA-256."""
LOCAL = "cpu"
"""The device every worker has: the processor of its own machine."""


class WorkState(StrEnum):
    """Where a piece of work stands."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether its result is still to come."""
        return self in (WorkState.QUEUED, WorkState.CLAIMED)


@dataclass(frozen=True)
class Device:
    """A device that registered itself.

    Attributes:
        name: unique; after the @ of a metric.
        owner: whose token registered it first; nobody else's may.
        instance: of the agent that speaks for it, opaque.
        facts: processor, memory, runtimes, as it told them.
        registered_at: seconds since the epoch, as are the others.
        last_seen: when its agent last spoke.
        live_until: when it counts as gone unless its agent speaks again.
        n_done: pieces of work it reported.
    """

    name: str
    owner: str
    instance: str
    facts: Mapping[str, Any]
    registered_at: float
    last_seen: float
    live_until: float
    n_done: int = 0

    def is_live(self, now: float) -> bool:
        """Whether its agent spoke lately."""
        return self.live_until > now

    @property
    def runtime(self) -> str | None:
        """Name and version of what it times files with; None where its agent did not calibrate."""
        calibration = self.facts.get("calibration")
        told = calibration.get("runtime") if isinstance(calibration, Mapping) else None
        return None if told is None else str(told)


@dataclass(frozen=True)
class Work:
    """One file to be timed on one device.

    Attributes:
        work_id: opaque and unique in its store.
        device: its name.
        job_id: of the job that asked; "" for none.
        digest: SHA-256 of the file, hexadecimal.
        settings: of the profiler, for example `{"n_runs": 300}`.
        about: what the asker wants to find again beside the result, opaque.
        state: where it stands.
        created_at: seconds since the epoch, as is `lease_until`.
        claim: secret of whoever took it last; only a report that knows it counts.
        instance: of the agent that took it last.
        lease_until: when it goes back to the queue unless its agent speaks.
        attempts: how often it was taken.
        profile: what was measured, as JSON; None before, and where it failed.
        error: why it failed.
    """

    work_id: str
    device: str
    job_id: str
    digest: str
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    state: WorkState
    created_at: float
    claim: str | None = None
    instance: str | None = None
    lease_until: float | None = None
    attempts: int = 0
    profile: Mapping[str, Any] | None = None
    error: str | None = None

    @property
    def measured(self) -> Profile | None:
        """The profile, read."""
        return None if self.profile is None else Profile.from_json(self.profile)


@dataclass(frozen=True)
class Estimate:
    """A figure nobody measured, in the unit of its metric.

    Attributes:
        value: expected.
        std: its standard deviation.
        error: median relative error of such predictions for measured files, each left out in turn.
        n_measured: files it was learned from.
        source: what it was learned from, in words.
    """

    value: float
    std: float
    error: float
    n_measured: int
    source: str = "files it measured before"


Features = Mapping[str, float]
"""What predictions go by: closed-form costs of a candidate, what it took on known devices, and what
its file is like. Those with an `@` in their name count as they are, of the others the logarithm."""

Estimator = Callable[[Sequence[tuple[Features, float]], Features], Estimate | None]
"""What a device would measure, from what it measured so far; None where that is too little."""


def device_name(text: str) -> str:
    """`text`, if a device may be called so.

    Raises:
        InvalidInputError: it may not.
    """
    if NAME.fullmatch(text) is None or text == LOCAL:
        expected = f"at most 64 letters, digits, '.', '_', '-', and not {LOCAL}"
        raise InvalidInputError("device", text, expected)
    return text
