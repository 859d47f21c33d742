"""Networks of namespaces of Linux: bridges, and processes inside."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path


def number_inside(pid: int) -> int | None:
    """A process's number in its own namespace; None if it ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition("\nNSpid:")[2].split("\n")[0].split()[-1])


def new_bridge() -> int:
    """The number of a bridge that nobody has, which is now there."""
    for number in range(256):
        made = subprocess.run(
            ["ip", "link", "add", f"nas{number}", "type", "bridge"], capture_output=True, text=True
        )
        if made.returncode == 0:
            ip("address", "add", f"198.18.{number}.254/24", "dev", f"nas{number}")
            ip("link", "set", f"nas{number}", "up")
            return number
        if "File exists" not in made.stderr:
            break
    raise RuntimeError(f"no bridge can be made: {made.stderr.strip()}")


def ip(*arguments: str) -> str:
    """What `ip` of iproute2 says.

    Raises:
        RuntimeError: it refuses.
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes that may have ended."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
