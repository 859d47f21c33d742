"""Where jobs and trials live: in memory, or in SQL."""

from __future__ import annotations

from nas.core import JobStore
from nas.stores.memory import MemoryStore

__all__ = ["MemoryStore", "open_store"]


def open_store(url: str) -> JobStore:
    """The store at `url`: `memory`, or an SQLAlchemy URL (`sqlite:///nas.db`, `postgresql+psycopg://…`).

    A database is created or migrated to the present schema.

    Raises:
        InvalidInputError: not such a URL.
        StoreError: the database cannot be reached, or is of a newer version.
    """
    if url == "memory":
        return MemoryStore()
    from nas.stores.sql import SqlStore

    return SqlStore(url)
