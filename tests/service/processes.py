"""Servers as processes of their own, and waiting for what they do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.client import ClientJob


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`nas serve` as a process of its own; gives it and its URL."""
    command = [sys.executable, "-m", "nas", "serve", "--home", str(home), "--port", "0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("serving http"), line
        yield process, line.split()[1]
    finally:
        process.terminate()
        process.wait(30)
        process.stderr.close()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def keys(job: ClientJob) -> list[tuple[int, str | None]]:
    return [(t.number, t.candidate.key if t.candidate else None) for t in job.trials()]
