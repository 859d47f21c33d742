"""Jobs and trials in SQLite or PostgreSQL."""

from nas.stores.sql.store import SqlStore

__all__ = ["SqlStore"]
