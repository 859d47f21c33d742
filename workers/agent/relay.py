"""Timing on a device that cannot call out: over SSH or adb, from a machine that reaches both ends.

What measures is one file of Python (an importable archive with this package's few modules), copied
once; the device needs Python, NumPy and a runtime. Then each file to be timed is copied, and the
archive is run as a child would be here.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nas.core
import workers
from nas.core import EvaluationError, InvalidInputError, Profile
from workers.isolation import child_answer

ARCHIVE, MODEL, BODY = "nas-measure.pyz", "model.onnx", "work.json"
MAIN = """import os
from workers.machine import die_with_parent
die_with_parent()  # before what takes long to load
if os.getppid() == 1:
    raise SystemExit("the connection ended")
from workers.profiling.child import main
main()
"""
MODULES = (
    *("isolation.py", "machine.py", "runtimes.py", "agent/facts.py"),
    *("profiling/*.py", "executorch/*.py"),
)
COPY_SECONDS = 300.0


@dataclass(frozen=True)
class Reach:
    """How commands are run on a device, and files brought there.

    Attributes:
        shell: words before the command line to run there.
        copy: words before a local path and a remote one.
        prefix: of a remote path.
        folder: there, for the archive and the files.
    """

    shell: tuple[str, ...]
    copy: tuple[str, ...]
    prefix: str
    folder: str

    @classmethod
    def of(cls, text: str, folder: str | None = None) -> Reach:
        """Read `ssh [options] HOST` or `adb [options]`.

        Options of ssh are given to scp, too: ports as `-o Port=2222`.

        Raises:
            InvalidInputError: neither.
        """
        try:
            words = tuple(shlex.split(text))
        except ValueError:
            words = ()
        match words:
            case ("ssh", *options, host) if not host.startswith("-"):
                batch = ("-o", "BatchMode=yes", *options)
                shell, copy = ("ssh", *batch, host), ("scp", "-q", *batch)
                return cls(shell, copy, f"{host}:", folder or ".nas-agent")
            case ("adb", *options):
                adb = ("adb", *options)
                where = folder or "/data/local/tmp/nas-agent"
                return cls((*adb, "shell"), (*adb, "push"), "", where)
            case _:
                raise InvalidInputError("through", text, '"ssh [options] HOST" or "adb [options]"')


@dataclass(frozen=True)
class Relay:
    """Runs one file at a time on a device that is reached from here.

    Attributes:
        reach: how.
        max_seconds: until the child there is given up; it ends with its connection.
        max_bytes: address space of the child; None for no limit.
        python: of the device.
    """

    reach: Reach
    max_seconds: float = 600.0
    max_bytes: int | None = None
    python: str = "python3"
    _copied: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def profile(
        self,
        artifact: Path,
        settings: Mapping[str, Any],
        goes_on: Callable[[], bool] = lambda: True,
    ) -> Profile:
        """Time `artifact` there, its peak memory included.

        Raises:
            EvaluationError: the device is not reached, or cannot load or run the file.
        """
        self._bring(artifact, MODEL)
        body = {"task": "profile", "path": MODEL, "settings": dict(settings)}
        return Profile.from_json(self._answer(body, goes_on))

    def calibrate(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Measure the reference network there, unless that was kept before.

        Raises:
            EvaluationError: as `profile`.
        """
        found: dict[str, Any] = self._answer({"task": "calibrate", "settings": dict(settings)})
        return found

    def facts(self) -> Mapping[str, Any]:
        """What the device tells about itself.

        Raises:
            EvaluationError: it is not reached, or lacks Python.
        """
        found: dict[str, Any] = self._answer({"task": "facts", "settings": {}})
        return found

    def _answer(self, body: Mapping[str, Any], goes_on: Callable[[], bool] = lambda: True) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            if not self._copied:
                archive = Path(folder) / ARCHIVE
                write_archive(archive)
                self._bring(archive, ARCHIVE)
                self._copied.append(ARCHIVE)
            asked = Path(folder) / BODY
            asked.write_text(json.dumps({**body, "max_bytes": self.max_bytes}))
            self._bring(asked, BODY)
        where, python = shlex.quote(self.reach.folder), shlex.quote(self.python)
        line = f"cd {where} && exec {python} {ARCHIVE} {BODY}"
        return child_answer([*self.reach.shell, line], None, self.max_seconds, goes_on)

    def _bring(self, local: Path, name: str) -> None:
        folder = self.reach.folder
        self._run([*self.reach.shell, f"mkdir -p {shlex.quote(folder)}"])
        self._run([*self.reach.copy, str(local), f"{self.reach.prefix}{folder}/{name}"])

    def _run(self, command: Sequence[str]) -> None:
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=COPY_SECONDS,
            )
        except FileNotFoundError:
            raise EvaluationError(f"{command[0]} is not installed here") from None
        except subprocess.TimeoutExpired:
            raise EvaluationError(f"{command[0]}: no answer in {COPY_SECONDS:g} s") from None
        except subprocess.CalledProcessError as error:
            last = (error.stderr or error.stdout or "").strip().splitlines()[-1:]
            raise EvaluationError(f"{command[0]}: {' '.join(last) or error}") from None


def write_archive(path: Path) -> None:
    """Write what measures as one file that Python runs."""
    core, tools = Path(nas.core.__file__).parent, Path(workers.__file__).parent
    files = {f"nas/core/{file.name}": file for file in core.glob("*.py")}
    for pattern in MODULES:
        files |= {f"workers/{f.relative_to(tools)}": f for f in tools.glob(pattern)}
    empty = ("nas/__init__.py", "workers/__init__.py", "workers/agent/__init__.py")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files.items()):
            archive.write(file, name)
        for name in empty:
            archive.writestr(name, "")
        archive.writestr("__main__.py", MAIN)
