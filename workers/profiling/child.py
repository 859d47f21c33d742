"""One file, loaded and timed in this process alone: JSON in, JSON out.

    python -m workers.profiling.child < {"path": …, "settings": {…} or null, "max_bytes": …}

`settings` are the profiler's; null only loads and runs the file for its peak memory.
"""

from __future__ import annotations

import ctypes
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.core import EvaluationError, NasError
from workers.profiling.onnxruntime import OnnxRuntimeProfiler
from workers.profiling.runtime import session, single_run

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
DIES_WITH_PARENT = 1


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What `body` asks for, or `{"error": sentence}`."""
    if body["max_bytes"] is not None:
        _limit(int(body["max_bytes"]))
    path, settings = Path(body["path"]), body["settings"]
    try:
        peak = peak_memory(path, 1 if settings is None else int(settings.get("n_threads", 1)))
        if settings is None:
            return {"peak_memory_bytes": peak}
        found = OnnxRuntimeProfiler(**settings).profile(path)
        return replace(found, peak_memory_bytes=peak).to_json()
    except NasError as error:
        return {"error": str(error)}
    except (MemoryError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def peak_memory(path: Path, n_threads: int) -> int | None:
    """Bytes by which loading and one run raised what this process had at most; None if not told.

    Raises:
        EvaluationError: ONNX Runtime cannot load or run it.
    """
    before = _status("VmRSS")
    try:
        CLEAR.write_text("5")  # from now on the peak is counted anew (proc(5))
    except OSError:
        before = None
    runner = session(path, n_threads)
    try:
        single_run(runner)()
    except EvaluationError:
        raise
    except Exception as error:  # the runtime's errors share no other base
        raise EvaluationError(f"ONNX Runtime cannot run {path.name}: {error}") from None
    after = _status("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _status(name: str) -> int | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


def _limit(n_bytes: int) -> None:
    """Refuse further memory beyond `n_bytes` more than now."""
    import resource

    taken = _status("VmSize") or 0
    resource.setrlimit(resource.RLIMIT_AS, (taken + n_bytes, taken + n_bytes))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    _die_with_parent()
    print(json.dumps(answer(json.load(sys.stdin))))
