"""Building devices' tables of layers beside something else, each in a process of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nas.core import ConflictError, DeviceStore, NasError, Report
from nas.spec import JobSpec
from workers.machine import environment
from workers.tables import LayerTable, family_digest, table_path

if TYPE_CHECKING:
    from nas.problem import Problem

N_CANDIDATES, N_FILES = 80, 12
"""Looked at for layers, and of them timed as a whole, unless somebody says otherwise."""

CLOSE_SECONDS = 10.0
MOST_LINES = 1000
BuildState = Literal["none", "running", "done", "failed"]


@dataclass(frozen=True)
class Build:
    """How building a table stands.

    Attributes:
        build_id: opaque; "" where none was asked for.
        state: `none` where none was asked for.
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
    """Starts `nas devices table`, one at a time for each device.

    Keeps nothing that matters: what a build timed is in the table of its device, and a build that
    is asked for anew goes on from there. What it says goes to a log beside the table.

    Args:
        home: the workspace.
        store_url: of its store; reaches builds by the environment, as it may hold a password.
    """

    def __init__(self, home: Path, store_url: str) -> None:
        self.home = home
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
        log = log_path(self.home, device)
        log.parent.mkdir(parents=True, exist_ok=True)
        where = ("--home", str(self.home), *options)
        command = [sys.executable, "-m", "nas", "devices", "table", device, *where]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment(NAS_STORE=self._store_url, OMP_NUM_THREADS="1"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        return _Started(secrets.token_hex(8), options, process, log)


def table_options(spec: JobSpec, n_candidates: int, n_files: int) -> list[str]:
    """Options of `nas devices table` for the space of a job."""
    limit = [] if spec.data_limit is None else [f"--data-limit={spec.data_limit}"]
    narrowed = [f"--space-option={k}={json.dumps(v)}" for k, v in spec.space.options.items()]
    counts = [f"--candidates={n_candidates}", f"--files={n_files}", f"--seed={spec.seed}"]
    return [f"--data={spec.data}", *limit, f"--space={spec.space.name}", *narrowed, *counts]


@contextmanager
def tables_meanwhile(
    problem: Problem, builder: TableBuilder, devices: DeviceStore, say: Report
) -> Iterator[None]:
    """While the block runs, build the tables that a job wants and its devices lack.

    Whatever becomes of that, the job goes on; what was timed when the block ends is kept.

    Args:
        problem: of the job.
        builder: of the workspace; closed in the end.
        devices: of its store.
        say: is told of tables that are built, or cannot be.
    """
    from nas.imported_tables import with_agents  # torch takes a second to import

    home = builder.home
    try:
        for name in with_agents(problem.spec, home) if problem.spec.tables else ():
            try:
                table = LayerTable.read(home, name, devices.device(name).runtime)
                if table is None or family_digest(problem.family) not in table.families:
                    builder.start(name, table_options(problem.spec, N_CANDIDATES, N_FILES))
                    say(f"device {name}: its table is built meanwhile, see {log_path(home, name)}")
            except NasError as error:
                say(f"device {name}: its table is not built: {error}")
        yield
    finally:
        builder.close()


def log_path(home: Path, device: str) -> Path:
    """What the last build of a device's table said."""
    return table_path(home, device).with_name(f"{device}.log")
