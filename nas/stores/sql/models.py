"""The tables. Times are seconds since the epoch; structured fields are JSON."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

JsonObject = dict[str, Any]
OPEN_WORK = text("state IN ('queued', 'claimed')")


class Base(DeclarativeBase):
    """Root of the typed models."""

    type_annotation_map = {JsonObject: JSON}  # noqa: RUF012


class JobRow(Base):
    """One job."""

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    spec: Mapped[JsonObject]
    state: Mapped[str] = mapped_column(String(16))
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]
    owner: Mapped[str] = mapped_column(String(200), server_default="")
    key: Mapped[str | None] = mapped_column(String(200))
    priority: Mapped[int] = mapped_column(server_default="0")
    wanted: Mapped[str | None] = mapped_column(String(16))
    workers: Mapped[int | None]
    driver: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None]
    fence: Mapped[int] = mapped_column(server_default="0")

    __table_args__ = (
        Index("ix_jobs_newest", "created_at", "job_id"),
        Index("ix_jobs_state_newest", "state", "created_at", "job_id"),
        Index("ix_jobs_owner_newest", "owner", "created_at", "job_id"),
        Index("ux_jobs_owner_key", "owner", "key", unique=True),
    )


class TrialRow(Base):
    """One trial as it stands now; final once its state is not running."""

    __tablename__ = "trials"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    candidate_key: Mapped[str | None] = mapped_column(String(16))
    fidelity: Mapped[str | None] = mapped_column(String(16))
    task: Mapped[JsonObject]
    metrics: Mapped[JsonObject]
    provenance: Mapped[JsonObject]
    artifacts: Mapped[JsonObject]
    error: Mapped[str | None] = mapped_column(Text)
    seconds: Mapped[float]

    __table_args__ = (
        Index("ix_trials_state", "job_id", "state", "number"),
        Index("ix_trials_fidelity", "job_id", "fidelity", "number"),
        Index("ix_trials_candidate", "job_id", "candidate_key", "number"),
    )


class EventRow(Base):
    """One line of a job's append-only log."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    trial_number: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[float]


class TokenRow(Base):
    """One token; of its secret only the SHA-256 is here."""

    __tablename__ = "tokens"

    token_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    expires_at: Mapped[float | None]
    revoked_at: Mapped[float | None]
    digest: Mapped[str] = mapped_column(String(64), unique=True)


class DeviceRow(Base):
    """One device."""

    __tablename__ = "devices"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    owner: Mapped[str] = mapped_column(String(200))
    instance: Mapped[str] = mapped_column(String(200))
    facts: Mapped[JsonObject]
    registered_at: Mapped[float]
    last_seen: Mapped[float]
    live_until: Mapped[float]
    n_done: Mapped[int]


class DeviceWorkRow(Base):
    """One file to be timed on one device."""

    __tablename__ = "device_work"

    work_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    device: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(String(32))
    digest: Mapped[str] = mapped_column(String(64))
    settings: Mapped[JsonObject]
    about: Mapped[JsonObject]
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float]
    claim: Mapped[str | None] = mapped_column(String(64))
    instance: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None]
    attempts: Mapped[int]
    profile: Mapped[JsonObject | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        Index(
            "ix_device_work_open",
            "device",
            "created_at",
            "work_id",
            sqlite_where=OPEN_WORK,
            postgresql_where=OPEN_WORK,
        ),
        Index("ix_device_work_job", "job_id", "device", "created_at"),
    )
