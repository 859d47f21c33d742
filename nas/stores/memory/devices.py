"""Devices and their work in dictionaries."""

from __future__ import annotations

import copy
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from nas.core import Device, DeviceStore, NotFoundError, Work, WorkState
from nas.stores import _work as rules


class MemoryDeviceStore(DeviceStore):
    """Devices and work by name and id. Safe for threads."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._work: dict[str, Work] = {}
        self._lock = threading.RLock()

    def register(
        self, name: str, instance: str, owner: str, facts: Mapping[str, Any], seconds: float
    ) -> Device:
        """Let `instance` speak for a device; what the device had claimed is queued."""
        with self._lock:
            known, kept = self._devices.get(name), copy.deepcopy(dict(facts))
            device = rules.registered(known, name, instance, owner, kept, seconds, time.time())
            self._devices[name] = device
            for work in self._of(name, WorkState.CLAIMED):
                self._work[work.work_id] = replace(work, state=WorkState.QUEUED, lease_until=None)
            return copy.deepcopy(device)

    def beat(
        self, name: str, instance: str, seconds: float, holding: Sequence[str] = ()
    ) -> Sequence[Work]:
        """Stay live for `seconds` from now, and so the claims on `holding`."""
        with self._lock:
            rules.require_speaker(self._known(name), instance)
            now = time.time()
            self._see(name, now, seconds)
            held = [w for w in self._of(name, WorkState.CLAIMED) if w.work_id in holding]
            held = [replace(work, lease_until=now + seconds) for work in held]
            self._work |= {work.work_id: work for work in held}
            return copy.deepcopy(held)

    def device(self, name: str) -> Device:
        """One device."""
        with self._lock:
            return copy.deepcopy(self._known(name))

    def devices(self) -> Sequence[Device]:
        """Every device, by name."""
        with self._lock:
            return copy.deepcopy([self._devices[name] for name in sorted(self._devices)])

    def waiting(self) -> Mapping[str, int]:
        """How many open pieces of work each device has."""
        with self._lock:
            return dict(Counter(w.device for w in self._work.values() if w.state.is_open))

    def forget(self, name: str) -> None:
        """Delete a device that is not live; its open work fails."""
        with self._lock:
            rules.require_gone(self._known(name), time.time())
            del self._devices[name]
            for work in self._of(name, *rules.OPEN):
                failed = replace(work, state=WorkState.FAILED, error=rules.FORGOTTEN)
                self._work[work.work_id] = failed

    def submit(
        self,
        device: str,
        digest: str,
        settings: Mapping[str, Any],
        job_id: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> Work:
        """Queue a file for a device; the same job's same file is the same work."""
        with self._lock:
            self._known(device)
            work = rules.new_work(device, digest, settings, job_id, about, time.time())
            for known in self._work.values():
                if rules.is_same(known, work):
                    return copy.deepcopy(known)
            self._work[work.work_id] = copy.deepcopy(work)
            return work

    def claim(self, name: str, instance: str, seconds: float) -> Work | None:
        """Take the oldest work that nobody holds, for `seconds`."""
        with self._lock:
            rules.require_speaker(self._known(name), instance)
            now = time.time()
            for work in self._of(name, *rules.OPEN):
                if work.state is WorkState.CLAIMED and (work.lease_until or 0.0) > now:
                    continue
                if work.attempts >= rules.MOST_ATTEMPTS:
                    failed = replace(work, state=WorkState.FAILED, error=rules.WORN_OUT)
                    self._work[work.work_id] = failed
                    continue
                taken = replace(
                    work,
                    state=WorkState.CLAIMED,
                    claim=secrets.token_hex(16),
                    instance=instance,
                    lease_until=now + seconds,
                    attempts=work.attempts + 1,
                )
                self._work[work.work_id] = taken
                return copy.deepcopy(taken)
            return None

    def report(
        self,
        work_id: str,
        claim: str,
        profile: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Work:
        """Sign work off, with a profile or with what went wrong."""
        with self._lock:
            before = self.work(work_id)
            work = rules.signed_off(before, claim, copy.deepcopy(profile), error)
            self._work[work_id] = work
            known = self._devices.get(work.device)
            if work != before and known is not None:
                self._devices[work.device] = replace(known, n_done=known.n_done + 1)
            return copy.deepcopy(work)

    def work(self, work_id: str) -> Work:
        """One piece of work."""
        with self._lock:
            if work_id not in self._work:
                raise NotFoundError("work", work_id)
            return copy.deepcopy(self._work[work_id])

    def works(
        self,
        device: str | None = None,
        job_id: str | None = None,
        states: Sequence[WorkState] = (),
        limit: int | None = None,
    ) -> Sequence[Work]:
        """Work by device, job and state, newest first."""
        with self._lock:
            ordered = sorted(self._work.values(), key=_place, reverse=True)
            found = (
                work
                for work in ordered
                if device in (None, work.device)
                and job_id in (None, work.job_id)
                and (not states or work.state in states)
            )
            return copy.deepcopy(list(islice(found, limit)))

    def cancel(self, work_id: str) -> Work:
        """Cancel work that is open."""
        with self._lock:
            work = self.work(work_id)
            if work.state.is_open:
                work = replace(work, state=WorkState.CANCELLED, lease_until=None)
                self._work[work_id] = work
            return work

    def drop_job(self, job_id: str, delete: bool) -> None:
        """Cancel the open work of a job, or delete all of it."""
        with self._lock:
            for work in [w for w in self._work.values() if w.job_id == job_id]:
                if delete:
                    del self._work[work.work_id]
                else:
                    self.cancel(work.work_id)

    def _known(self, name: str) -> Device:
        if name not in self._devices:
            raise NotFoundError("device", name)
        return self._devices[name]

    def _see(self, name: str, now: float, seconds: float) -> None:
        known = self._devices[name]
        self._devices[name] = replace(known, last_seen=now, live_until=now + seconds)

    def _of(self, name: str, *states: WorkState) -> list[Work]:
        found = [w for w in self._work.values() if w.device == name and w.state in states]
        return sorted(found, key=_place)


def _place(work: Work) -> tuple[float, str]:
    return work.created_at, work.work_id
