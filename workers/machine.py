"""Facts about the machine this process runs on."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

DIES_WITH_PARENT = 1
"""Option of prctl(2)."""


def usable_cpus() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def total_memory() -> int | None:
    """Bytes of memory of this machine; None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


@cache
def processor_name() -> str:
    """The processor's name as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment(**more: str) -> dict[str, str]:
    """For a child that runs Python: this process's own, its modules to be found, and `more`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **more}


def detached(command: Sequence[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, to outlive this one; what it prints goes to `log`.

    Args:
        command: and its arguments.
        log: appended to.
        more: environment variables beside this process's own; unlike arguments they are not seen
            by other users of the machine.
    """
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def die_with_parent(parent: int | None = None) -> None:
    """Let this process be killed when the thread that started it ends; on Linux alone.

    Args:
        parent: process that started it, if known: where it is gone already, this one ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        sys.exit("the process that started this one is gone")
