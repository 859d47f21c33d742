"""Agents as processes, for tests."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nas.core import JobStore, Work
from nas.core.device import FILES
from workers.profiling.reference import reference_model

ROOT = Path(__file__).parents[2]
QUICK = {"n_runs": 60}
SLOW = {"n_runs": 1_000_000, "tightness": 0.0, "max_seconds": 6.0}
"""Six seconds of timing."""


@contextmanager
def agent(
    url: str, folder: Path, *options: str, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """An agent called pi, killed in the end; `prefix` goes before its command."""
    python = [*prefix, sys.executable, "-m", "nas", "agent"]
    process = subprocess.Popen(
        [*python, "--server", url, "--name", "pi", "--folder", str(folder), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def queued(
    store: JobStore, home: Path, settings: dict[str, float], content: bytes | None = None
) -> Work:
    """Work for pi on the reference network, or on a file that says it is."""
    model = reference_model()
    digest = hashlib.sha256(model).hexdigest()
    (home / FILES).mkdir(parents=True, exist_ok=True)
    (home / FILES / f"{digest}.onnx").write_bytes(content or model)
    return store.devices().submit("pi", digest, settings)


def is_registered(store: JobStore) -> bool:
    """Whether pi is there and live."""
    return any(d.name == "pi" and d.is_live(time.time()) for d in store.devices().devices())


def resident_bytes(process_id: int) -> int:
    """Memory of a process that is resident now."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    (found,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(found) * 1024
