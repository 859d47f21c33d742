"""Jobs and trials in SQLite or PostgreSQL."""

from nas.stores.sql.jobs import SqlStore

__all__ = ["SqlStore"]
