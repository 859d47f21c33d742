"""Files loaded and run in a process of their own: limits that hold, and memory that is theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.core import EvaluationError, Profile
from workers.machine import environment

MOST_LETTERS = 500
"""Of what a dead child said last."""


@dataclass(frozen=True)
class Isolated:
    """Runs one file at a time in a child that may be killed without harm.

    Attributes:
        max_seconds: until the child is killed.
        max_bytes: address space of the child; None for no limit.
    """

    max_seconds: float = 300.0
    max_bytes: int | None = None

    def profile(
        self,
        artifact: Path,
        settings: Mapping[str, Any],
        goes_on: Callable[[], bool] = lambda: True,
    ) -> Profile:
        """Time `artifact`, its peak memory included.

        Args:
            artifact: the file.
            settings: name of a runtime, and fields of its profiler.
            goes_on: asked several times a second; false kills the child.

        Raises:
            EvaluationError: the file cannot be loaded or run, or not within the limits.
        """
        body = {"task": "profile", "path": str(artifact), "settings": dict(settings)}
        return Profile.from_json(self._answer(body, goes_on))

    def peak_memory(self, artifact: Path, runtime: str) -> int | None:
        """Bytes that loading and running `artifact` took at most; None where nobody tells.

        Raises:
            EvaluationError: as `profile`.
        """
        body = {"task": "peak_memory", "path": str(artifact), "settings": {"runtime": runtime}}
        peak: int | None = self._answer(body)["peak_memory_bytes"]
        return peak

    def calibrate(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Measure the reference network, unless that was kept before; the calibration as JSON.

        Raises:
            EvaluationError: the runtime cannot run it.
        """
        found: dict[str, Any] = self._answer({"task": "calibrate", "settings": dict(settings)})
        return found

    def _answer(self, body: Mapping[str, Any], goes_on: Callable[[], bool] = lambda: True) -> Any:
        command = [sys.executable, "-m", "workers.profiling.child"]
        asked = json.dumps({**body, "max_bytes": self.max_bytes})
        return child_answer(command, asked, self.max_seconds, goes_on)


def child_answer(
    command: Sequence[str], asked: str | None, max_seconds: float, goes_on: Callable[[], bool]
) -> Any:
    """What a command that ends in `workers.profiling.child` answers.

    Args:
        command: its words.
        asked: for its standard input; None for nothing.
        max_seconds: until it is killed.
        goes_on: asked several times a second; false kills it.

    Raises:
        EvaluationError: it says so, dies, or was killed.
    """
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        said, errors = _said(child, asked, max_seconds, goes_on)
    finally:
        _end(child)
    lines = said.strip().splitlines()
    if child.returncode != 0 or not lines:
        raise EvaluationError(_death(child.returncode, errors))
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise EvaluationError(answer["error"])
    return answer


def _said(
    child: subprocess.Popen[str],
    asked: str | None,
    max_seconds: float,
    goes_on: Callable[[], bool],
) -> tuple[str, str]:
    """What a child said until it ended, to standard output and to standard error.

    Raises:
        EvaluationError: it takes too long, or is to be stopped.
    """
    until = time.monotonic() + max_seconds
    while True:
        try:
            return child.communicate(asked, timeout=0.2)
        except subprocess.TimeoutExpired:
            asked = None  # it is on its way
        if time.monotonic() > until:
            raise EvaluationError(f"not done after {max_seconds:g} s: it was stopped")
        if not goes_on():
            raise EvaluationError("stopped on request")


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)  # a session of its own: whatever it started, too
    child.communicate()


def _death(status: int, errors: str) -> str:
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    last = errors.strip().splitlines()[-1][-MOST_LETTERS:] if errors.strip() else "no last words"
    return f"the process that ran the file ended with {how}: {last}"
