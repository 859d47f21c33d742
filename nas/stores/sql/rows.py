"""Rows of jobs, and the lock that every change of a job takes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from nas.core import Job, JobState, NotFoundError
from nas.stores.sql.models import Base

Jobs = Base.metadata.tables["jobs"]
COLUMNS = [Jobs.c[field.name] for field in fields(Job)]

LOCKED_JOB = select(*COLUMNS).where(Jobs.c.job_id == bindparam("job")).with_for_update()


def locked_job(connection: Connection, job_id: str) -> Job:
    """A job nobody else can change before this transaction ends.

    PostgreSQL locks the row; SQLite has no row locks and needs none: its writing transactions come
    one after the other.

    Raises:
        NotFoundError: no such job.
    """
    row = connection.execute(LOCKED_JOB, {"job": job_id}).one_or_none()
    if row is None:
        raise NotFoundError("job", job_id)
    return job_of(row)


def job_of(row: Row[Any]) -> Job:
    """The job in a row of `COLUMNS`."""
    wanted = None if row.wanted is None else JobState(row.wanted)
    return Job(**{**row._mapping, "state": JobState(row.state), "wanted": wanted})


def values_of(job: Job) -> dict[str, Any]:
    """The columns of a job."""
    wanted = None if job.wanted is None else job.wanted.value
    return {**vars(job), "spec": dict(job.spec), "state": job.state.value, "wanted": wanted}
