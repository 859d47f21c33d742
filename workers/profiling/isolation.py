"""Files loaded and run in a process of their own: limits that hold, and memory that is theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from nas.core import EvaluationError, Profile

LAST_WORDS = 500


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
            settings: fields of `OnnxRuntimeProfiler`.
            goes_on: asked several times a second; false kills the child.

        Raises:
            EvaluationError: the file cannot be loaded or run, or not within the limits.
        """
        body = {"path": str(artifact), "settings": dict(settings), "max_bytes": self.max_bytes}
        return Profile.from_json(self._answer(body, goes_on))

    def peak_memory(self, artifact: Path) -> int | None:
        """Bytes that loading and running `artifact` took at most; None where nobody tells.

        Raises:
            EvaluationError: as `profile`.
        """
        body = {"path": str(artifact), "settings": None, "max_bytes": self.max_bytes}
        peak: int | None = self._answer(body, lambda: True)["peak_memory_bytes"]
        return peak

    def _answer(self, body: Mapping[str, Any], goes_on: Callable[[], bool]) -> Any:
        command = [sys.executable, "-m", "workers.profiling.child"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        said, errors = "", ""
        until, asked = time.monotonic() + self.max_seconds, cast(str | None, json.dumps(body))
        try:
            while True:
                try:
                    said, errors = child.communicate(asked, timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    asked = None  # it is on its way
                    if time.monotonic() > until:
                        raise EvaluationError(
                            f"not done after {self.max_seconds:g} s: it was stopped"
                        ) from None
                    if not goes_on():
                        raise EvaluationError("stopped on request") from None
        finally:
            _end(child)
        if child.returncode != 0 or not said:
            raise EvaluationError(_death(child.returncode, errors))
        answer = json.loads(said)
        if "error" in answer:
            raise EvaluationError(answer["error"])
        return answer


def _end(child: subprocess.Popen[str]) -> None:
    if child.poll() is None:
        child.kill()
    child.communicate()


def _death(status: int, errors: str) -> str:
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    last = errors.strip().splitlines()[-1][-LAST_WORDS:] if errors.strip() else "no last words"
    return f"the process that ran the file ended with {how}: {last}"
