"""Building devices' tables of layers, each in a process of its own."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nas.core import ConflictError
from workers.machine import environment
from workers.tables import table_path

CLOSE_SECONDS = 10.0
MOST_LINES = 1000
BuildState = Literal["none", "running", "done", "failed"]


@dataclass(frozen=True)
class Build:
    """How building a table stands.

    Attributes:
        build_id: opaque; "" where none was asked of this server.
        state: `none` where none was asked of this server.
        lines: what it said so far.
        message: why it failed.
    """

    build_id: str = ""
    state: BuildState = "none"
    lines: Sequence[str] = ()
    message: str = ""


@dataclass(frozen=True)
class _Started:
    build_id: str
    options: tuple[str, ...]
    process: subprocess.Popen[bytes]
    log: Path

    def build(self) -> Build:
        status = self.process.poll()
        lines = self.log.read_text(errors="replace").splitlines()[:MOST_LINES]
        match status:
            case None:
                return Build(self.build_id, "running", lines)
            case 0:
                return Build(self.build_id, "done", lines)
            case _:
                last = lines[-1] if lines else f"its process ended with status {status}"
                return Build(self.build_id, "failed", lines, last.removeprefix("error "))


class TableBuilder:
    """Starts `nas devices table` for devices of this server, one at a time for each.

    Keeps nothing that matters: what a build timed is in the table of its device, and a build that
    is asked for anew goes on from there. What it says goes to a log beside the table.

    Args:
        home: the workspace.
        store_url: of its store; reaches builds by the environment, as it may hold a password.
    """

    def __init__(self, home: Path, store_url: str) -> None:
        self._home = home
        self._store_url = store_url
        self._started: dict[str, _Started] = {}
        self._lock = threading.Lock()

    def start(self, device: str, options: Sequence[str]) -> Build:
        """Build the table of a device, unless that is under way.

        Args:
            device: its name.
            options: of `nas devices table`.

        Raises:
            ConflictError: one with other options is under way.
        """
        with self._lock:
            known = self._started.get(device)
            if known is not None and known.process.poll() is None:
                if known.options != tuple(options):
                    raise ConflictError(f"another table of {device} is being built; wait for it")
                return known.build()
            started = self._start(device, tuple(options))
            self._started[device] = started
        return started.build()

    def of(self, device: str) -> Build:
        """How the last build of a device stands."""
        started = self._started.get(device)
        return Build() if started is None else started.build()

    def close(self) -> None:
        """Stop what is under way."""
        processes = [started.process for started in self._started.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, device: str, options: tuple[str, ...]) -> _Started:
        log = table_path(self._home, device).with_name(f"{device}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        where = ("--home", str(self._home), *options)
        command = [sys.executable, "-m", "nas", "devices", "table", device, *where]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment(NAS_STORE=self._store_url),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        return _Started(secrets.token_hex(8), options, process, log)
