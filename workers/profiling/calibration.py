"""What the reference network takes on this device when nothing disturbs it, measured once and kept.

A ratio to the reference repeats within 2 % where milliseconds do within 20 %, so reported
milliseconds are that ratio times this one figure: two reports differ no more than two ratios do.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from workers.machine import processor_name
from workers.profiling.timing import CALM, warm_up

SECONDS = 2.0
"""How long the reference is timed for; what disturbs a machine often lasts some tenths."""


@dataclass(frozen=True)
class Calibration:
    """The reference network's undisturbed time on one device.

    Attributes:
        reference_ms: 5 % quantile of its runs.
        processor: of the device.
        runtime: name and version.
        threads: of the runtime.
        measured_at: seconds since the epoch.
    """

    reference_ms: float
    processor: str
    runtime: str
    threads: int
    measured_at: float

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What was kept; None where there is nothing that can be read."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def calibrated(
    seconds: Callable[[], float], runtime: str, threads: int, folder: Path | None = None
) -> Calibration:
    """The calibration kept in `folder`, measured now where there is none.

    Of several processes that measure at once the first to finish counts for all. Where nothing
    can be kept, it holds for this call only.

    Args:
        seconds: runs the reference network once, and tells what that took.
        runtime: name and version; another one is calibrated anew.
        threads: of the runtime, likewise.
        folder: None for the user's cache.
    """
    kept = (cache_folder() if folder is None else folder) / _file_name(runtime, threads)
    found = Calibration.read(kept)
    if found is not None:
        return found
    fresh = Calibration(_calm_ms(seconds), processor_name(), runtime, threads, time.time())
    return _kept_first(kept, fresh)


def cache_folder() -> Path:
    """`NAS_CACHE`, or `nas` in the user's cache folder."""
    own = os.environ.get("NAS_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(base) if base else Path.home() / ".cache") / "nas"


def _calm_ms(seconds: Callable[[], float]) -> float:
    warm_up(seconds)
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < until:
        times.append(seconds())
    return float(np.percentile(times, CALM)) * 1e3


def _file_name(runtime: str, threads: int) -> str:
    about = f"{processor_name()}/{runtime}/{threads}"
    return f"calibration-{hashlib.sha256(about.encode()).hexdigest()[:16]}.json"


def _kept_first(path: Path, fresh: Calibration) -> Calibration:
    """Keep `fresh` unless another process kept its own before; gives the one that is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(fresh), file)
        found = Calibration.read(path)
        if found is None:
            Path(name).replace(path)
            return fresh
        Path(name).unlink()
        return found
    except OSError:
        return fresh
