"""Devices and their work in SQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.engine import Engine

from nas.core import Device, DeviceStore, NotFoundError, Work, WorkState
from nas.stores import _work as rules
from nas.stores.sql.connection import transaction
from nas.stores.sql.models import Base

Devices, Works = (Base.metadata.tables[name] for name in ("devices", "device_work"))
DEVICE = [Devices.c[field.name] for field in fields(Device)]
WORK = [Works.c[field.name] for field in fields(Work)]
IS_OPEN = Works.c.state.in_([state.value for state in rules.OPEN])


class SqlDeviceStore(DeviceStore):
    """Devices and work in SQL. Safe for threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def register(
        self, name: str, instance: str, owner: str, facts: Mapping[str, Any], seconds: float
    ) -> Device:
        """Let `instance` speak for a device; what the device had claimed is queued."""
        with transaction(self._engine) as connection:
            known, now = _device(connection, name, lock=True), time.time()
            device = rules.registered(known, name, instance, owner, facts, seconds, now)
            values = {**vars(device), "facts": dict(device.facts)}
            if known is None:
                connection.execute(insert(Devices), values)
            else:
                connection.execute(update(Devices).where(Devices.c.name == name).values(values))
            back = {"state": WorkState.QUEUED.value, "lease_until": None}
            connection.execute(update(Works).where(_claimed(name)).values(back))
        return device

    def beat(
        self, name: str, instance: str, seconds: float, holding: Sequence[str] = ()
    ) -> Sequence[Work]:
        """Stay live for `seconds` from now, and so the claims on `holding`."""
        with transaction(self._engine) as connection:
            rules.require_speaker(_known(connection, name, lock=True), instance)
            now = time.time()
            seen = {"last_seen": now, "live_until": now + seconds}
            connection.execute(update(Devices).where(Devices.c.name == name).values(seen))
            if not holding:
                return []
            held = update(Works).where(_claimed(name), Works.c.work_id.in_(holding))
            held = held.values(lease_until=now + seconds)
            return [_work(row) for row in connection.execute(held.returning(*WORK))]

    def device(self, name: str) -> Device:
        """One device."""
        with transaction(self._engine, reads=True) as connection:
            return _known(connection, name)

    def devices(self) -> Sequence[Device]:
        """Every device, by name."""
        with transaction(self._engine, reads=True) as connection:
            rows = connection.execute(select(*DEVICE))
            return sorted((Device(**row._mapping) for row in rows), key=lambda d: d.name)

    def waiting(self) -> Mapping[str, int]:
        """How many open pieces of work each device has."""
        query = select(Works.c.device, func.count()).where(IS_OPEN).group_by(Works.c.device)
        with transaction(self._engine, reads=True) as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def forget(self, name: str) -> None:
        """Delete a device that is not live; its open work fails."""
        with transaction(self._engine) as connection:
            rules.require_gone(_known(connection, name, lock=True), time.time())
            connection.execute(delete_rows(Devices).where(Devices.c.name == name))
            failed = {"state": WorkState.FAILED.value, "error": rules.FORGOTTEN}
            of_device = update(Works).where(Works.c.device == name, IS_OPEN)
            connection.execute(of_device.values(failed))

    def submit(
        self,
        device: str,
        digest: str,
        settings: Mapping[str, Any],
        job_id: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> Work:
        """Queue a file for a device; the same job's same file is the same work."""
        work = rules.new_work(device, digest, settings, job_id, about, time.time())
        alike = (Works.c.device == device, Works.c.job_id == job_id, Works.c.digest == digest)
        with transaction(self._engine) as connection:
            _known(connection, device, lock=True)  # of two who submit at once, one waits here
            for row in connection.execute(select(*WORK).where(*alike)):
                if rules.is_same(known := _work(row), work):
                    return known
            connection.execute(insert(Works), {**vars(work), "state": work.state.value})
        return work

    def claim(self, name: str, instance: str, seconds: float) -> Work | None:
        """Take the oldest work that nobody holds, for `seconds`: one UPDATE … RETURNING."""
        with transaction(self._engine) as connection:
            while True:
                row = connection.execute(_claim(name, instance, seconds)).one_or_none()
                if row is None:
                    rules.require_speaker(_known(connection, name), instance)
                    return None
                if row.attempts <= rules.MOST_ATTEMPTS:
                    return _work(row)
                failed = {"state": WorkState.FAILED.value, "error": rules.WORN_OUT}
                one = update(Works).where(Works.c.work_id == row.work_id)
                connection.execute(one.values(**failed, lease_until=None))

    def report(
        self,
        work_id: str,
        claim: str,
        profile: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> Work:
        """Sign work off, with a profile or with what went wrong."""
        with transaction(self._engine) as connection:
            before = _locked(connection, work_id)
            work = rules.signed_off(before, claim, profile, error)
            if work != before:
                _write(connection, work)
                device = update(Devices).where(Devices.c.name == work.device)
                connection.execute(device.values(n_done=Devices.c.n_done + 1))
        return work

    def work(self, work_id: str) -> Work:
        """One piece of work."""
        query = select(*WORK).where(Works.c.work_id == work_id)
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFoundError("work", work_id)
        return _work(row)

    def works(
        self,
        device: str | None = None,
        job_id: str | None = None,
        states: Sequence[WorkState] = (),
        limit: int | None = None,
    ) -> Sequence[Work]:
        """Work by device, job and state, newest first."""
        query = select(*WORK).order_by(Works.c.created_at.desc(), Works.c.work_id.desc())
        if device is not None:
            query = query.where(Works.c.device == device)
        if job_id is not None:
            query = query.where(Works.c.job_id == job_id)
        if states:
            query = query.where(Works.c.state.in_([state.value for state in states]))
        with transaction(self._engine, reads=True) as connection:
            return [_work(row) for row in connection.execute(query.limit(limit))]

    def cancel(self, work_id: str) -> Work:
        """Cancel work that is open."""
        with transaction(self._engine) as connection:
            _locked(connection, work_id)
            cancel_open(connection, Works.c.work_id == work_id)
        return self.work(work_id)


def cancel_open(connection: Connection, where: Any) -> None:
    """Cancel the open work that `where` picks."""
    over = {"state": WorkState.CANCELLED.value, "lease_until": None}
    connection.execute(update(Works).where(where, IS_OPEN).values(over))


def _claim(name: str, instance: str, seconds: float) -> Any:
    """The statement that takes the oldest work nobody holds; the device's speaker alone may."""
    now = time.time()
    free = or_(
        Works.c.state == WorkState.QUEUED.value,
        and_(Works.c.state == WorkState.CLAIMED.value, Works.c.lease_until <= now),
    )
    oldest = (
        select(Works.c.work_id)
        .where(Works.c.device == name, IS_OPEN, free)
        .order_by(Works.c.created_at, Works.c.work_id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    speaks = select(Devices.c.name).where(Devices.c.name == name, Devices.c.instance == instance)
    taken = {
        "state": WorkState.CLAIMED.value,
        "claim": secrets.token_hex(16),
        "instance": instance,
        "lease_until": now + seconds,
        "attempts": Works.c.attempts + 1,
    }
    mine = (Works.c.work_id == oldest, speaks.exists())
    return update(Works).where(*mine).values(taken).returning(*WORK)


def _claimed(name: str) -> Any:
    return (Works.c.device == name) & (Works.c.state == WorkState.CLAIMED.value)


def _device(connection: Connection, name: str, lock: bool = False) -> Device | None:
    query = select(*DEVICE).where(Devices.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else Device(**row._mapping)


def _known(connection: Connection, name: str, lock: bool = False) -> Device:
    device = _device(connection, name, lock)
    if device is None:
        raise NotFoundError("device", name)
    return device


def _locked(connection: Connection, work_id: str) -> Work:
    query = select(*WORK).where(Works.c.work_id == work_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError("work", work_id)
    return _work(row)


def _write(connection: Connection, work: Work) -> None:
    values = {**vars(work), "state": work.state.value}
    connection.execute(update(Works).where(Works.c.work_id == work.work_id).values(values))


def _work(row: Row[Any]) -> Work:
    return Work(**{**row._mapping, "state": WorkState(row.state)})
