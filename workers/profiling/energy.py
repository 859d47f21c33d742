"""Energy from the devices' own meters: the processor's (RAPL), and NVIDIA's (NVML)."""

from __future__ import annotations

import ctypes
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.profiling.timing import Run

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
SECONDS = 0.5
"""How long is measured; the meters move every millisecond or hundred, so steps matter little."""


class Meter(ABC):
    """Counters that rise with the energy taken."""

    @abstractmethod
    def counts(self) -> Sequence[float | None]:
        """Millijoules by counter; None where one cannot be read."""

    def per_run_mj(self, run: Run, seconds: float = SECONDS) -> float | None:
        """Millijoules of one run, over `seconds` of runs; None where a counter wrapped or failed.

        Energy of other processes and of idle silicon is part of it.
        """
        before, n = self.counts(), 0
        until = time.perf_counter() + seconds
        while n == 0 or time.perf_counter() < until:
            run()
            n += 1
        total = 0.0
        for start, end in zip(before, self.counts(), strict=True):
            if start is None or end is None or end < start:
                return None
            total += end - start
        return total / n


@dataclass(frozen=True)
class Rapl(Meter):
    """The packages' counters (Intel and AMD, Linux powercap): all that runs on the machine."""

    counters: tuple[Path, ...]

    @classmethod
    def found(cls, folder: Path = POWERCAP) -> Rapl | None:
        """The readable counters of this machine's packages; None where there are none."""
        packages = sorted(folder.glob("intel-rapl:?")) if folder.is_dir() else []
        counters = tuple(p / "energy_uj" for p in packages if _count(p / "energy_uj") is not None)
        return cls(counters) if counters else None

    def counts(self) -> Sequence[float | None]:
        """By package."""
        return [_count(counter) for counter in self.counters]


@dataclass(frozen=True)
class Nvml(Meter):
    """One NVIDIA GPU's counter since its driver was loaded (Volta and newer).

    Reference: NVML API, `nvmlDeviceGetTotalEnergyConsumption`.
    """

    library: Any
    handle: Any

    @classmethod
    def found(cls, index: int = 0, name: str = NVML) -> Nvml | None:
        """GPU number `index` in NVML's order; None without NVML, such a GPU, or a counter."""
        try:
            library, handle = ctypes.CDLL(name), ctypes.c_void_p()
        except OSError:
            return None
        if library.nvmlInit_v2() != 0:
            return None
        if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
            return None
        meter = cls(library, handle)
        return None if None in meter.counts() else meter

    def counts(self) -> Sequence[float | None]:
        """One."""
        found = ctypes.c_ulonglong()
        status = self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle, ctypes.byref(found))
        return [float(found.value) if status == 0 else None]


def _count(path: Path) -> float | None:
    """Millijoules; None where they may not be read."""
    try:
        return int(path.read_text()) / 1e3
    except (OSError, ValueError):
        return None
