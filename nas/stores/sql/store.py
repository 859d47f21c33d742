"""The SQL store: one code for SQLite and PostgreSQL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, literal, select, update
from sqlalchemy.engine import Engine

from nas.core import (
    ConflictError,
    Evaluate,
    Event,
    EventKind,
    Job,
    JobState,
    JobStore,
    NotFoundError,
    Task,
    Trial,
    TrialState,
    TrialStore,
)
from nas.core.trial import task_from_json, task_to_json
from nas.stores._checks import only_match, require_finished
from nas.stores.sql.connection import connect, transaction
from nas.stores.sql.migrate import migrate
from nas.stores.sql.models import Base

metadata = Base.metadata
Jobs, Trials, Events = (metadata.tables[name] for name in ("jobs", "trials", "events"))

LOCK_JOB = select(Jobs.c.job_id).where(Jobs.c.job_id == bindparam("job")).with_for_update()
NEXT_NUMBER = select(func.coalesce(func.max(Trials.c.number) + 1, 0)).where(
    Trials.c.job_id == bindparam("job")
)
NEXT_SEQUENCE = select(func.coalesce(func.max(Events.c.sequence), literal(0)) + 1).where(
    Events.c.job_id == bindparam("job")
)
FINISH = (
    update(Trials)
    .where(
        Trials.c.job_id == bindparam("job"),
        Trials.c.number == bindparam("trial"),
        Trials.c.state == TrialState.RUNNING.value,
    )
    .values(
        {
            name: bindparam(name)
            for name in ("metrics", "provenance", "artifacts", "error", "seconds")
        }
    )
    .values(state=bindparam("new_state"))
)
STATE = select(Trials.c.state).where(
    Trials.c.job_id == bindparam("job"), Trials.c.number == bindparam("trial")
)
EVENTS = (
    select(Events.c.sequence, Events.c.kind, Events.c.at, *Trials.c)
    .join(Trials, (Trials.c.job_id == Events.c.job_id) & (Trials.c.number == Events.c.trial_number))
    .where(Events.c.job_id == bindparam("job"), Events.c.sequence > bindparam("after"))
    .order_by(Events.c.sequence)
)
TRIALS = select(*Trials.c).where(Trials.c.job_id == bindparam("job")).order_by(Trials.c.number)


class SqlTrialStore(TrialStore):
    """The log of one job in SQL. Safe for threads and for other processes writing at once."""

    def __init__(self, engine: Engine, job_id: str) -> None:
        self._engine = engine
        self._job_id = job_id

    def create(self, task: Task) -> Trial:
        """Store a new running trial with the next number, and its started event."""
        candidate = task.candidate if isinstance(task, Evaluate) else None
        with transaction(self._engine) as connection:
            self._lock(connection)
            number = connection.execute(NEXT_NUMBER, {"job": self._job_id}).scalar_one()
            trial = Trial(number, task)
            connection.execute(
                insert(Trials),
                {
                    "job_id": self._job_id,
                    "number": number,
                    "candidate_key": candidate.key if candidate else None,
                    "fidelity": trial.fidelity.value if trial.fidelity else None,
                    "task": task_to_json(task),
                    **_result_columns(trial),
                    "state": trial.state.value,
                },
            )
            self._append(connection, number, EventKind.STARTED)
        return trial

    def finish(self, trial: Trial) -> None:
        """Store a completed or failed trial, and its finished event, in one transaction."""
        require_finished(trial)
        where = {"job": self._job_id, "trial": trial.number}
        with transaction(self._engine) as connection:
            self._lock(connection)
            values = {**where, **_result_columns(trial), "new_state": trial.state.value}
            if connection.execute(FINISH, values).rowcount == 0:
                state = connection.execute(STATE, where).scalar_one_or_none()
                if state is None:
                    raise NotFoundError("trial", trial.number)
                raise ConflictError(f"trial {trial.number} is already {state}")
            self._append(connection, trial.number, EventKind.FINISHED)

    def events(self, after: int = 0) -> Sequence[Event]:
        """The log past sequence number `after`, in order."""
        with transaction(self._engine, reads=True) as connection:
            rows = connection.execute(EVENTS, {"job": self._job_id, "after": after}).all()
        return [_event(row) for row in rows]

    def trials(self) -> Sequence[Trial]:
        """Every trial as it stands now, by number."""
        with transaction(self._engine, reads=True) as connection:
            return [_trial(row) for row in connection.execute(TRIALS, {"job": self._job_id})]

    def _lock(self, connection: Connection) -> None:
        """Keep other writers of this job out; SQLite's transactions do so by themselves."""
        if self._engine.dialect.name != "sqlite":
            connection.execute(LOCK_JOB, {"job": self._job_id})

    def _append(self, connection: Connection, number: int, kind: EventKind) -> None:
        sequence = connection.execute(NEXT_SEQUENCE, {"job": self._job_id}).scalar_one()
        connection.execute(
            insert(Events),
            {
                "job_id": self._job_id,
                "sequence": sequence,
                "trial_number": number,
                "kind": kind.value,
                "at": time.time(),
            },
        )


class SqlStore(JobStore):
    """Jobs in SQL; the database is created or migrated when the store is opened.

    Safe for threads. After a fork open a new store: connections cannot be shared.

    Raises:
        InvalidInputError: not a database URL.
        StoreError: the database cannot be reached, or is of a newer version.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        with transaction(self._engine):
            pass
        migrate(self._engine)

    def create_job(self, name: str, spec: Mapping[str, Any]) -> Job:
        """Store a new job in state created, with a new id."""
        job = Job(secrets.token_hex(4), name, dict(spec), JobState.CREATED, "", time.time())
        with transaction(self._engine) as connection:
            connection.execute(insert(Jobs), {**vars(job), "state": job.state.value})
        return job

    def job(self, job_id: str) -> Job:
        """One job, by id or by a prefix that fits only one."""
        with transaction(self._engine, reads=True) as connection:
            query = select(*Jobs.c).where(Jobs.c.job_id.startswith(job_id, autoescape=True))
            found = {row.job_id: row for row in connection.execute(query)} if job_id else {}
        return _job(found[only_match(job_id, list(found))])

    def jobs(self) -> Sequence[Job]:
        """Every job, newest first."""
        with transaction(self._engine, reads=True) as connection:
            query = select(*Jobs.c).order_by(Jobs.c.created_at.desc())
            return [_job(row) for row in connection.execute(query)]

    def set_state(self, job_id: str, state: JobState, message: str = "") -> Job:
        """Move a job to `state`."""
        with transaction(self._engine) as connection:
            change = update(Jobs).where(Jobs.c.job_id == job_id)
            values = {"state": state.value, "message": message}
            if connection.execute(change.values(values)).rowcount == 0:
                raise NotFoundError("job", job_id)
        return self.job(job_id)

    def trial_store(self, job_id: str) -> TrialStore:
        """The trials of one job."""
        return SqlTrialStore(self._engine, self.job(job_id).job_id)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _result_columns(trial: Trial) -> dict[str, Any]:
    return {
        "metrics": dict(trial.metrics),
        "provenance": dict(trial.provenance),
        "artifacts": dict(trial.artifacts),
        "error": trial.error,
        "seconds": trial.seconds,
    }


def _job(row: Row[Any]) -> Job:
    return Job(row.job_id, row.name, row.spec, JobState(row.state), row.message, row.created_at)


def _trial(row: Row[Any]) -> Trial:
    return Trial(
        number=row.number,
        task=task_from_json(row.task),
        state=TrialState(row.state),
        metrics=row.metrics,
        provenance=row.provenance,
        artifacts=row.artifacts,
        error=row.error,
        seconds=row.seconds,
    )


def _event(row: Row[Any]) -> Event:
    kind = EventKind(row.kind)
    started = kind is EventKind.STARTED
    trial = Trial(row.number, task_from_json(row.task)) if started else _trial(row)
    return Event(row.sequence, kind, trial, row.at)
