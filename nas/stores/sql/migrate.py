"""Bringing a database to the present schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from nas.core import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(engine: Engine) -> None:
    """Create the tables, or upgrade them step by step.

    Raises:
        StoreError: the database was written by a newer version.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision == scripts.get_current_head():
            return
        if revision is not None and revision not in {s.revision for s in scripts.walk_revisions()}:
            raise StoreError(
                f"the database has schema {revision}, written by a newer version: upgrade nas"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
