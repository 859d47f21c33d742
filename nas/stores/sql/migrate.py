"""Bringing a database to the present schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from nas.core import StoreError
from nas.stores.sql.connection import transaction

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6E6173
"""Of PostgreSQL's advisory locks: of two who open a database at once, one upgrades it."""


def migrate(engine: Engine, to: str = "head") -> None:
    """Create the tables, or upgrade them step by step.

    Args:
        engine: of the database.
        to: schema to reach; an earlier one only for tests.

    Raises:
        StoreError: the database was written by a newer version, or refused.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision == scripts.get_current_head():
            return
        if revision is not None and revision not in {s.revision for s in scripts.walk_revisions()}:
            raise StoreError(
                f"the database has schema {revision}, written by a newer version: upgrade nas"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, to)
