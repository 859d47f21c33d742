"""Every store: in memory, SQLite, PostgreSQL."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.core import JobStore
from nas.stores import open_store

POSTGRES = os.environ.get(
    "NAS_TEST_POSTGRES", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)


@pytest.fixture
def empty_postgres_url() -> Iterator[str]:
    """A database of this test alone."""
    yield from fresh_database()


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """A database of this module's tests."""
    yield from fresh_database()


def fresh_database() -> Iterator[str]:
    """A new database on the PostgreSQL server at NAS_TEST_POSTGRES, dropped afterwards."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    server = sqlalchemy.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    name = f"nas_test_{uuid.uuid4().hex[:12]}"
    try:
        with server.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sqlalchemy.exc.OperationalError:
        pytest.skip("no PostgreSQL server at NAS_TEST_POSTGRES")
    yield server.url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    server.dispose()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "memory":
            return "memory"
        case "sqlite":
            return f"sqlite:///{tmp_path / 'nas.db'}"
        case _:
            return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str) -> JobStore:
    return open_store(url)
