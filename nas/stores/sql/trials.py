"""The log of one job in SQL."""

from __future__ import annotations

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
    Lease,
    NotFoundError,
    Task,
    Trial,
    TrialQuery,
    TrialState,
    TrialStore,
)
from nas.core.trial import task_from_json, task_to_json
from nas.stores._checks import CANCELLED, require_finished
from nas.stores._transitions import require_held
from nas.stores.sql.connection import transaction
from nas.stores.sql.models import Base
from nas.stores.sql.rows import locked_job

Trials, Events = (Base.metadata.tables[name] for name in ("trials", "events"))

NEXT_NUMBER = select(func.coalesce(func.max(Trials.c.number) + 1, 0)).where(
    Trials.c.job_id == bindparam("job")
)
LAST_SEQUENCE = select(func.coalesce(func.max(Events.c.sequence), literal(0))).where(
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
EVENTS = (
    select(Events.c.sequence, Events.c.kind, Events.c.at, *Trials.c)
    .join(Trials, (Trials.c.job_id == Events.c.job_id) & (Trials.c.number == Events.c.trial_number))
    .where(Events.c.job_id == bindparam("job"), Events.c.sequence > bindparam("after"))
    .order_by(Events.c.sequence)
)
FINISHED = (
    select(
        *(Events.c.sequence, Events.c.at, Trials.c.number, Trials.c.state),
        *(Trials.c.task, Trials.c.metrics, Trials.c.error, Trials.c.seconds),
    )
    .join(Trials, (Trials.c.job_id == Events.c.job_id) & (Trials.c.number == Events.c.trial_number))
    .where(
        Events.c.job_id == bindparam("job"),
        Events.c.sequence > bindparam("after"),
        Events.c.kind == EventKind.FINISHED.value,
    )
    .order_by(Events.c.sequence)
)
TRIALS = select(*Trials.c).where(Trials.c.job_id == bindparam("job"))
TRIAL = TRIALS.where(Trials.c.number == bindparam("trial"))
COUNTS = (
    select(Trials.c.state, func.count())
    .where(Trials.c.job_id == bindparam("job"))
    .group_by(Trials.c.state)
)
RUNNING = (
    select(Trials.c.number)
    .where(Trials.c.job_id == bindparam("job"), Trials.c.state == TrialState.RUNNING.value)
    .order_by(Trials.c.number)
)


class SqlTrialStore(TrialStore):
    """The log of one job in SQL. Safe for threads and for other processes writing at once.

    Every write first locks the job's row, and so sees the fence that nobody can raise meanwhile.

    Args:
        engine: of the database.
        job_id: of the job.
        lease: under which it is written; None writes without.
    """

    def __init__(self, engine: Engine, job_id: str, lease: Lease | None = None) -> None:
        self._engine = engine
        self._job_id = job_id
        self._lease = lease

    def create(self, task: Task) -> Trial:
        """Store a new running trial with the next number, and its started event."""
        candidate = task.candidate if isinstance(task, Evaluate) else None
        with transaction(self._engine) as connection:
            self._admit(connection)
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
            _append(connection, self._job_id, [number], EventKind.STARTED)
        return trial

    def finish(self, trial: Trial) -> None:
        """Store a completed or failed trial, and its finished event, in one transaction."""
        require_finished(trial)
        where = {"job": self._job_id, "trial": trial.number}
        with transaction(self._engine) as connection:
            self._admit(connection)
            values = {**where, **_result_columns(trial), "new_state": trial.state.value}
            if connection.execute(FINISH, values).rowcount == 0:
                row = connection.execute(TRIAL, where).one_or_none()
                if row is None:
                    raise NotFoundError("trial", trial.number)
                raise ConflictError(f"trial {trial.number} is already {row.state}")
            _append(connection, self._job_id, [trial.number], EventKind.FINISHED)

    def events(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The log past sequence number `after`, in order, at most `limit` of it."""
        with transaction(self._engine, reads=True) as connection:
            query = EVENTS.limit(limit)
            rows = connection.execute(query, {"job": self._job_id, "after": after}).all()
        return [_event(row) for row in rows]

    def finished(self, after: int = 0, limit: int | None = None) -> Sequence[Event]:
        """The finished events past `after`, without provenance and artifacts."""
        with transaction(self._engine, reads=True) as connection:
            query = FINISHED.limit(limit)
            found = connection.execute(query, {"job": self._job_id, "after": after})
            return [Event(e.sequence, EventKind.FINISHED, _lean_trial(e), e.at) for e in found]

    def last_sequence(self) -> int:
        """Sequence number of the newest event; 0 before the first."""
        with transaction(self._engine, reads=True) as connection:
            return int(connection.execute(LAST_SEQUENCE, {"job": self._job_id}).scalar_one())

    def trials(self) -> Sequence[Trial]:
        """Every trial as it stands now, by number."""
        return self.page(TrialQuery())

    def trial(self, number: int) -> Trial:
        """One trial as it stands now."""
        where = {"job": self._job_id, "trial": number}
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(TRIAL, where).one_or_none()
        if row is None:
            raise NotFoundError("trial", number)
        return _trial(row)

    def page(self, query: TrialQuery) -> Sequence[Trial]:
        """The trials that `query` asks for, as they stand now."""
        number = Trials.c.number
        wanted = TRIALS.order_by(number.desc() if query.newest_first else number)
        if query.states:
            wanted = wanted.where(Trials.c.state.in_([s.value for s in query.states]))
        if query.fidelities:
            wanted = wanted.where(Trials.c.fidelity.in_([f.value for f in query.fidelities]))
        if query.candidate_key is not None:
            wanted = wanted.where(Trials.c.candidate_key == query.candidate_key)
        if query.numbers is not None:
            wanted = wanted.where(number.in_(query.numbers))
        if query.after is not None:
            beyond = number < query.after if query.newest_first else number > query.after
            wanted = wanted.where(beyond)
        with transaction(self._engine, reads=True) as connection:
            rows = connection.execute(wanted.limit(query.limit), {"job": self._job_id})
            return [_trial(row) for row in rows]

    def counts(self) -> Mapping[TrialState, int]:
        """How many trials are in each state."""
        with transaction(self._engine, reads=True) as connection:
            found = connection.execute(COUNTS, {"job": self._job_id}).all()
        return dict.fromkeys(TrialState, 0) | {TrialState(state): n for state, n in found}

    def _admit(self, connection: Connection) -> None:
        """Keep other writers of this job out, and stay out where the lease is lost."""
        job = locked_job(connection, self._job_id)
        if self._lease is not None:
            require_held(job, self._lease)


def cancel_running(connection: Connection, job_id: str) -> None:
    """Fail the running trials of a job whose row is locked."""
    numbers = [row.number for row in connection.execute(RUNNING, {"job": job_id})]
    if numbers:
        where = (Trials.c.job_id == job_id, Trials.c.state == TrialState.RUNNING.value)
        failed = {"state": TrialState.FAILED.value, "error": CANCELLED}
        connection.execute(update(Trials).where(*where).values(failed))
        _append(connection, job_id, numbers, EventKind.FINISHED)


def _append(connection: Connection, job_id: str, numbers: Sequence[int], kind: EventKind) -> None:
    last = connection.execute(LAST_SEQUENCE, {"job": job_id}).scalar_one()
    rows = [
        {"job_id": job_id, "sequence": i, "trial_number": n, "kind": kind.value, "at": time.time()}
        for i, n in enumerate(numbers, last + 1)
    ]
    connection.execute(insert(Events), rows)


def _result_columns(trial: Trial) -> dict[str, Any]:
    return {
        "metrics": dict(trial.metrics),
        "provenance": dict(trial.provenance),
        "artifacts": dict(trial.artifacts),
        "error": trial.error,
        "seconds": trial.seconds,
    }


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


def _lean_trial(row: Any) -> Trial:
    return Trial(
        number=row.number,
        task=task_from_json(row.task),
        state=TrialState(row.state),
        metrics=row.metrics,
        error=row.error,
        seconds=row.seconds,
    )


def _event(row: Row[Any]) -> Event:
    kind = EventKind(row.kind)
    started = kind is EventKind.STARTED
    trial = Trial(row.number, task_from_json(row.task)) if started else _trial(row)
    return Event(row.sequence, kind, trial, row.at)
