"""What every runtime's profiler does alike: time a file in turn with the reference, and say how."""

from __future__ import annotations

import tempfile
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import EvaluationError, LatencyQuantiles, Profile, Profiler
from workers.isolation import Isolated
from workers.machine import processor_name
from workers.profiling.calibration import Calibration, calibrated
from workers.profiling.energy import Meter, Rapl
from workers.profiling.reference import reference_model
from workers.profiling.timing import CALM, Run, in_turn, pinned, timed


@dataclass(frozen=True)
class FileProfiler(Profiler):
    """Times single images, each run followed by one of a fixed reference network.

    Both see the same disturbances, so their ratio is steadier than either. Ends early when the
    ratio's interval is tight. A subclass brings one runtime, and no fields.

    Attributes:
        n_runs: timed runs after warm-up, at most; at least 30.
        n_threads: of the runtime's operators, and cores this thread is kept on.
        tightness: half width of the ratio's 95 % interval at which timing ends, relative.
        max_seconds: of timed runs.
        measures_memory: load and run the file once more, in a process of its own, for its peak.
        layer_runs: runs under the runtime's own profiler for what each layer takes; 0 for none.
        calibrations: folder that keeps the reference's time; None for the user's cache.
    """

    n_runs: int = 300
    n_threads: int = 1
    tightness: float = 0.005
    max_seconds: float = 60.0
    measures_memory: bool = False
    layer_runs: int = 0
    calibrations: str | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the runtime, as `workers.runtimes` knows it."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and version of the runtime, and of what it runs on where that is not the CPU."""

    @property
    @abstractmethod
    def device(self) -> str:
        """`cpu`, or the accelerator's name."""

    def converted(self, artifact: Path, folder: Path) -> Path:
        """The file the runtime loads: `artifact`, unless something is made of it in `folder` first.

        Raises:
            EvaluationError: it cannot be converted.
        """
        return artifact

    @abstractmethod
    def load(self, model: Path | bytes) -> Run:
        """What runs an ONNX model once, with batch 1 and always the same random input.

        Raises:
            EvaluationError: the runtime cannot load it.
        """

    @abstractmethod
    def seconds(self, run: Run) -> float:
        """What one run takes."""

    @abstractmethod
    def meter(self) -> Meter | None:
        """The energy meter of the device; None where it has none."""

    @abstractmethod
    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """What the runtime made of the file, by its own account."""

    @abstractmethod
    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """Undisturbed milliseconds by layer, over `layer_runs` runs: see `layers.write_layers`.

        Raises:
            EvaluationError: the runtime does not tell, or cannot run it.
        """

    def profile(self, artifact: Path) -> Profile:
        """Load and time `artifact` with batch 1, pinned to cores where the system allows.

        Raises:
            EvaluationError: the runtime cannot convert, load or run it.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self._profile(self.converted(artifact, Path(folder)))

    def calibration(self, reference: Run | None = None) -> Calibration:
        """What is kept of this device and runtime; measured now where nothing is."""
        run = self.load(reference_model()) if reference is None else reference
        folder = None if self.calibrations is None else Path(self.calibrations)
        return calibrated(lambda: self.seconds(run), self.label, self.n_threads, folder)

    def _profile(self, artifact: Path) -> Profile:
        started = time.perf_counter()
        run = self.load(artifact)
        load_ms = (time.perf_counter() - started) * 1e3
        reference, meter = self.load(reference_model()), self.meter()
        limits = self.n_runs, self.tightness, self.max_seconds
        with pinned(self.n_threads) as cores:
            kept = self.calibration(reference)
            try:
                times, summary = in_turn(run, reference, *limits, seconds=self.seconds)
                energy_mj = None if meter is None else meter.per_run_mj(lambda: self.seconds(run))
            except Exception as error:  # the runtimes' errors share no other base
                raise EvaluationError(f"{self.label} cannot run {artifact.name}: {error}") from None
        p10, p25, p50, p75, p90, p99 = np.percentile(times[:, 0], (10, 25, 50, 75, 90, 99))
        return Profile(
            latency_ms=LatencyQuantiles(float(p10), float(p50), float(p90), float(p99)),
            latency_interval=summary.median_interval,
            latency_ratio=summary.ratio,
            ratio_interval=summary.ratio_interval,
            n_runs=len(times),
            spread=float((p75 - p25) / p50),
            load_ms=load_ms,
            peak_memory_bytes=self._peak_memory(artifact),
            energy_mj=energy_mj,
            conditions=self._conditions(artifact, cores, kept, times[:, 1]),
            reference_ms=kept.reference_ms,
        )

    def _peak_memory(self, artifact: Path) -> int | None:
        return Isolated().peak_memory(artifact, self.name) if self.measures_memory else None

    def _conditions(
        self,
        artifact: Path,
        cores: Sequence[int] | None,
        kept: Calibration,
        reference: NDArray[np.float64],
    ) -> Mapping[str, Any]:
        calm_ms = float(np.percentile(reference, CALM))
        layers = {}
        if self.layer_runs:
            now = kept.reference_ms / calm_ms  # a device that is slow now is slow for all layers
            layers = {"layers_ms": {k: ms * now for k, ms in self.layer_ms(artifact).items()}}
        return {
            "device": self.device,
            "processor": processor_name(),
            "runtime": self.label,
            "threads": self.n_threads,
            "cores": None if cores is None else list(cores),
            "batch": 1,
            "reference_ms": float(np.median(reference)),
            "reference_drift": calm_ms / kept.reference_ms - 1.0,
            "calibrated_at": kept.measured_at,
            "measured_at": time.time(),
            **self.executed(artifact),
            **layers,
        }


@dataclass(frozen=True)
class CpuProfiler(FileProfiler):
    """A runtime on this machine's processor."""

    @property
    def device(self) -> str:
        """`cpu`."""
        return "cpu"

    def seconds(self, run: Run) -> float:
        """By the wall clock."""
        return timed(run)

    def meter(self) -> Meter | None:
        """The processor's."""
        return Rapl.found()
