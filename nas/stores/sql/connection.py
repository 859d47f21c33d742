"""Engines, transactions and the one border where SQL errors become ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from nas.core import InvalidInputError, StoreError

BUSY_SECONDS = 30
READS = "nas_reads"
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
}
"""How long a PostgreSQL server that has vanished is waited for: at most 40 s, not hours."""


def connect(url: str) -> Engine:
    """An engine for `url` with this project's settings.

    Raises:
        InvalidInputError: not a database URL, or one whose driver is not installed.
    """
    expected = "memory, sqlite:///file.db or postgresql+psycopg://user@host/database"
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                Path(parsed.database).absolute().parent.mkdir(parents=True, exist_ok=True)
            engine = create_engine(
                parsed, json_serializer=_dumps, connect_args={"timeout": BUSY_SECONDS}
            )
            _tune_sqlite(engine)
            return engine
        patience = PATIENCE if parsed.get_driver_name().startswith("psycopg") else {}
        return create_engine(
            parsed, json_serializer=_dumps, pool_pre_ping=True, connect_args=patience
        )
    except (ArgumentError, NoSuchModuleError, ImportError, OSError) as error:
        raise InvalidInputError("store", url, f"{expected} ({error})") from None


@contextmanager
def transaction(engine: Engine, reads: bool = False) -> Iterator[Connection]:
    """A transaction, committed when the block ends well; one that only `reads` waits for nobody.

    Raises:
        StoreError: the database refused or could not be reached.
    """
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(**{READS: reads})
            with connection.begin():
                yield connection
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"the database did not take it: {str(cause).splitlines()[0]}") from error


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _tune_sqlite(engine: Engine) -> None:
    """Write-ahead log, foreign keys, and transactions that take the write lock at once.

    Two writers that first read would otherwise both hold a read lock, and one would fail.
    """

    @event.listens_for(engine, "connect")
    def settings(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("lower", 1, str.lower, deterministic=True)  # beyond ASCII

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get(READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
