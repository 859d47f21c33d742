"""Jobs and trials in this process alone, for tests and throw-away searches."""

from nas.stores.memory.jobs import MemoryStore

__all__ = ["MemoryStore"]
