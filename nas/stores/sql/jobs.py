"""The SQL store: one code for SQLite and PostgreSQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Insert, delete, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from nas.core import (
    AccountStore,
    DeviceStore,
    InvalidInputError,
    Job,
    JobQuery,
    JobState,
    Lease,
    NotFoundError,
    TrialStore,
)
from nas.core.job import ALL_JOBS
from nas.stores import _transitions as transitions
from nas.stores._changing import ChangingStore
from nas.stores._checks import only_match, require_same, require_short
from nas.stores.sql.accounts import SqlAccountStore
from nas.stores.sql.connection import connect, transaction
from nas.stores.sql.devices import SqlDeviceStore, Works, cancel_open
from nas.stores.sql.migrate import migrate
from nas.stores.sql.rows import COLUMNS, Jobs, job_of, locked_job, values_of
from nas.stores.sql.trials import Events, SqlTrialStore, Trials, cancel_running


class SqlStore(ChangingStore):
    """Jobs in SQL; the database is created or migrated when the store is opened.

    Safe for threads. After a fork open a new store: connections cannot be shared. A change of a
    job locks its row, computes the new job, and writes it, in one transaction.

    Raises:
        InvalidInputError: not a database URL.
        StoreError: the database cannot be reached, or is of a newer version.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        migrate(self._engine)

    def create_job(
        self,
        name: str,
        spec: Mapping[str, Any],
        owner: str = "",
        priority: int = 0,
        key: str | None = None,
    ) -> Job:
        """Store a new job in state created; the same owner's same key gives the same job."""
        for field, text in (("name", name), ("owner", owner), ("key", key or "")):
            require_short(field, text)
        now = time.time()
        job = Job(
            secrets.token_hex(4), name, dict(spec), JobState.CREATED, "", now, owner, priority
        )
        with transaction(self._engine) as connection:
            connection.execute(self._insert_unless_there().values(**values_of(job), key=key))
            query = select(*COLUMNS).where(
                Jobs.c.job_id == job.job_id
                if key is None
                else (Jobs.c.owner == owner) & (Jobs.c.key == key)
            )
            return require_same(job_of(connection.execute(query).one()), spec)

    def has_key(self, owner: str, key: str) -> bool:
        """Whether a job was stored with that owner's key."""
        query = select(Jobs.c.job_id).where((Jobs.c.owner == owner) & (Jobs.c.key == key))
        with transaction(self._engine, reads=True) as connection:
            return connection.execute(query).first() is not None

    def job(self, job_id: str) -> Job:
        """One job, by id or by a prefix that fits only one."""
        exact = select(*COLUMNS).where(Jobs.c.job_id == job_id)
        alike = select(*COLUMNS).where(Jobs.c.job_id.startswith(job_id, autoescape=True))
        with transaction(self._engine, reads=True) as connection:
            rows = connection.execute(exact).all()
            if not rows and job_id:
                rows = connection.execute(alike).all()
        found = {row.job_id: row for row in rows if row.job_id.startswith(job_id)}
        return job_of(found[only_match(job_id, list(found))])

    def jobs(self, query: JobQuery = ALL_JOBS) -> Sequence[Job]:
        """The jobs that `query` asks for, newest first."""
        wanted = select(*COLUMNS).order_by(Jobs.c.created_at.desc(), Jobs.c.job_id.desc())
        if query.states:
            wanted = wanted.where(Jobs.c.state.in_([state.value for state in query.states]))
        if query.owner is not None:
            wanted = wanted.where(Jobs.c.owner == query.owner)
        if query.name:
            wanted = wanted.where(
                func.lower(Jobs.c.name).contains(query.name.lower(), autoescape=True)
            )
        with transaction(self._engine, reads=True) as connection:
            if query.after is not None:
                place = tuple_(Jobs.c.created_at, Jobs.c.job_id)
                wanted = wanted.where(place < _place_of(connection, query.after))
            return [job_of(row) for row in connection.execute(wanted.limit(query.limit))]

    def delete_job(self, job_id: str) -> None:
        """Delete a job with its trials and events."""
        with transaction(self._engine) as connection:
            transitions.require_undriven(locked_job(connection, job_id), time.time())
            for table in (Works, Events, Trials, Jobs):
                connection.execute(delete(table).where(table.c.job_id == job_id))

    def trial_store(self, job_id: str, lease: Lease | None = None) -> TrialStore:
        """The trials of one job; with a lease, written only as long as it holds."""
        found = self.job(job_id).job_id
        if lease is not None and lease.job_id != found:
            raise InvalidInputError("lease", lease, f"one of job {found}")
        return SqlTrialStore(self._engine, found, lease)

    def accounts(self) -> AccountStore:
        """The tokens."""
        return SqlAccountStore(self._engine)

    def devices(self) -> DeviceStore:
        """The devices and their work."""
        return SqlDeviceStore(self._engine)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _change(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        with transaction(self._engine) as connection:
            before = locked_job(connection, job_id)
            job = transition(before)
            old, new = values_of(before), values_of(job)
            changed = {name: value for name, value in new.items() if value != old[name]}
            if changed:
                connection.execute(update(Jobs).where(Jobs.c.job_id == job_id).values(changed))
            if job.state is JobState.CANCELLED:
                cancel_running(connection, job_id)
                cancel_open(connection, Works.c.job_id == job_id)
        return job

    def _insert_unless_there(self) -> Insert:
        """PostgreSQL and SQLite say it alike, but SQLAlchemy has a class for each."""
        insert = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        return insert(Jobs).on_conflict_do_nothing(index_elements=["owner", "key"])


def _place_of(connection: Connection, job_id: str) -> tuple[float, str]:
    query = select(Jobs.c.created_at, Jobs.c.job_id).where(Jobs.c.job_id == job_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFoundError("job", job_id)
    return row.created_at, row.job_id
