"""Servers as processes of their own, and waiting for what they do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.client import ClientJob
from nas.stores import open_store


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


def keys(job: ClientJob) -> list[tuple[int, str | None]]:
    return [(t.number, t.candidate.key if t.candidate else None) for t in job.trials()]


def same_trials(
    found: list[tuple[int, str | None]], expected: list[tuple[int, str | None]], n_searched: int
) -> bool:
    """Whether a job had the trials it should have had.

    Which of two equal finalists is first depends on who finished first.
    """
    finalists = [sorted(str(key) for _, key in trials[n_searched:]) for trials in (found, expected)]
    return found[:n_searched] == expected[:n_searched] and finalists[0] == finalists[1]


def driver_of(home: Path, job: ClientJob) -> int:
    """Process id of the job's driver, from its lease."""
    driver = open_store(f"sqlite:///{home / 'nas.db'}").job(job.job_id).driver
    assert driver is not None
    return int(driver.split(":")[1])


def is_there(pid: int) -> bool:
    """Whether a process lives."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
