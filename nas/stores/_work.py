"""How devices and their work change: pure functions that every store applies in a transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.core import ConflictError, Device, Work, WorkState
from nas.core.device import device_name
from nas.stores._checks import require_short

MOST_ATTEMPTS = 5
WORN_OUT = f"taken {MOST_ATTEMPTS} times and never reported: it seems to take the device down"
FORGOTTEN = "the device was forgotten"
OPEN = (WorkState.QUEUED, WorkState.CLAIMED)


def registered(
    known: Device | None,
    name: str,
    instance: str,
    owner: str,
    facts: Mapping[str, Any],
    seconds: float,
    now: float,
) -> Device:
    """The device that `instance` speaks for from now on."""
    require_short("instance", instance)
    if known is None:
        kept = dict(facts)
        return Device(device_name(name), owner, instance, kept, now, now, now + seconds)
    if known.owner != owner:
        raise ConflictError(f"device {name} belongs to another owner; choose another name")
    if known.instance != instance and known.is_live(now):
        raise ConflictError(f"another device called {name} is live; choose another name")
    return replace(
        known, instance=instance, facts=dict(facts), last_seen=now, live_until=now + seconds
    )


def require_speaker(device: Device, instance: str) -> None:
    """Refuse an agent that does not (any longer) speak for a device.

    Raises:
        ConflictError: it does not.
    """
    if device.instance != instance:
        raise ConflictError(f"another agent speaks for device {device.name} now")


def require_gone(device: Device, now: float) -> None:
    """Refuse to forget a device that is there.

    Raises:
        ConflictError: it is live.
    """
    if device.is_live(now):
        raise ConflictError(f"device {device.name} is live; stop its agent first")


def new_work(
    device: str,
    digest: str,
    settings: Mapping[str, Any],
    job_id: str,
    about: Mapping[str, Any] | None,
    now: float,
) -> Work:
    """Work that waits."""
    work_id, kept = secrets.token_hex(8), dict(about or {})
    return Work(work_id, device, job_id, digest, dict(settings), kept, WorkState.QUEUED, now)


def is_same(one: Work, other: Work) -> bool:
    """Whether both ask for the same, and the first was not in vain."""
    if not one.job_id or one.state in (WorkState.FAILED, WorkState.CANCELLED):
        return False
    wanted = [(w.device, w.job_id, w.digest, json.dumps(dict(w.settings))) for w in (one, other)]
    return wanted[0] == wanted[1]


def signed_off(
    work: Work, claim: str, profile: Mapping[str, Any] | None, error: str | None
) -> Work:
    """`work` with its result; as it is where this claim signed it off before."""
    if work.claim != claim:
        raise ConflictError(f"work {work.work_id} was taken by another claim")
    if work.state in (WorkState.DONE, WorkState.FAILED):
        return work
    if work.state is WorkState.CANCELLED:
        raise ConflictError(f"work {work.work_id} was cancelled")
    if profile is None:
        said = error or "the device did not say why"
        return replace(work, state=WorkState.FAILED, error=said, lease_until=None)
    return replace(work, state=WorkState.DONE, profile=dict(profile), lease_until=None)
