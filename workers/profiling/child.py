"""One file, loaded and timed in this process alone: JSON in, JSON out.

    python -m workers.profiling.child < {"task": …, "path": …, "settings": {…}, "max_bytes": …}

`settings` are the runtime's name and the fields of its profiler. Tasks are `profile`, `peak_memory`
(only loads the file and runs it once), `calibrate` (no file: only the reference network) and
`facts` (of the device). The request may also be in a file, named by the only argument.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nas.core import EvaluationError, NasError
from workers.agent.facts import device_facts
from workers.machine import die_with_parent
from workers.profiling._base import FileProfiler
from workers.runtimes import profiler

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """What `body` asks for, or `{"error": sentence}`."""
    if body["max_bytes"] is not None:
        _limit(int(body["max_bytes"]))
    try:
        if body["task"] == "facts":
            return device_facts()
        chosen = profiler(**body["settings"])
        if body["task"] == "calibrate":
            return asdict(chosen.calibration())
        with tempfile.TemporaryDirectory() as folder:
            path = chosen.converted(Path(body["path"]), Path(folder))
            peak = peak_memory(path, chosen)
            if body["task"] == "peak_memory":
                return {"peak_memory_bytes": peak}
            return replace(chosen.profile(path), peak_memory_bytes=peak).to_json()
    except NasError as error:
        return {"error": str(error)}
    except (MemoryError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def peak_memory(path: Path, chosen: FileProfiler) -> int | None:
    """Bytes by which loading and one run raised what this process had at most; None if not told.

    Raises:
        EvaluationError: the runtime cannot load or run it.
    """
    before = _status("VmRSS")
    try:
        CLEAR.write_text("5")  # from now on the peak is counted anew (proc(5))
    except OSError:
        before = None
    run = chosen.load(path)
    try:
        run()
    except EvaluationError:
        raise
    except Exception as error:  # the runtimes' errors share no other base
        raise EvaluationError(f"{chosen.label} cannot run {path.name}: {error}") from None
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


def main() -> None:
    """Answer the one request."""
    die_with_parent()
    asked = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else sys.stdin.read()
    print(json.dumps(answer(json.loads(asked))))


if __name__ == "__main__":
    main()
