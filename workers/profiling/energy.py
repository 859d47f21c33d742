"""Energy from the processor's own meter (Intel and AMD RAPL through Linux powercap)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from workers.profiling.timing import Run

POWERCAP = Path("/sys/class/powercap")
SECONDS = 0.5
"""How long is measured; the meter moves every millisecond, so its steps do not matter."""


@dataclass(frozen=True)
class Rapl:
    """The packages' energy counters; they count all that runs on the machine, idle cores too."""

    counters: tuple[Path, ...]

    @classmethod
    def found(cls, folder: Path = POWERCAP) -> Rapl | None:
        """The readable counters of this machine's packages; None where there are none."""
        packages = sorted(folder.glob("intel-rapl:?")) if folder.is_dir() else []
        counters = tuple(p / "energy_uj" for p in packages if _count(p / "energy_uj") is not None)
        return cls(counters) if counters else None

    def per_run_mj(self, run: Run, seconds: float = SECONDS) -> float | None:
        """Millijoules of one run, over `seconds` of runs; None where a counter wrapped or failed.

        Energy of other processes and of idle silicon is part of it.
        """
        before, n = [_count(c) for c in self.counters], 0
        until = time.perf_counter() + seconds
        while n == 0 or time.perf_counter() < until:
            run()
            n += 1
        total = 0
        for counter, start in zip(self.counters, before, strict=True):
            end = _count(counter)
            if start is None or end is None or end < start:
                return None
            total += end - start
        return total / 1e3 / n


def _count(path: Path) -> int | None:
    """Microjoules; None where they may not be read."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
