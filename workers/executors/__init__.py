"""Executors: run trials in this process, or on a Ray cluster."""

from workers.executors.local import LocalExecutor

__all__ = ["LocalExecutor"]
