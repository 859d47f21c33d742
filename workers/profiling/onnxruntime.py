"""Latency of ONNX files on this machine's CPU through ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from nas.core import EvaluationError, LatencyQuantiles, Profile, Profiler
from workers.machine import processor_name
from workers.profiling.energy import Rapl
from workers.profiling.isolation import Isolated
from workers.profiling.reference import reference_model
from workers.profiling.runtime import execution, session, single_run
from workers.profiling.timing import Run, in_turn, pinned


@dataclass(frozen=True)
class OnnxRuntimeProfiler(Profiler):
    """Times single images, each run followed by one of a fixed reference network.

    Both see the same disturbances, so their ratio is steadier than either. Ends early when the
    ratio's interval is tight.

    Attributes:
        n_runs: timed runs after warm-up, at most; at least 30.
        n_threads: of the runtime's operators, and cores this thread is kept on.
        tightness: half width of the ratio's 95 % interval at which timing ends, relative.
        max_seconds: of timed runs.
        measures_memory: load and run the file once more, in a process of its own, for its peak.
    """

    n_runs: int = 300
    n_threads: int = 1
    tightness: float = 0.005
    max_seconds: float = 60.0
    measures_memory: bool = False

    def profile(self, artifact: Path) -> Profile:
        """Load and time `artifact` with batch 1, pinned to cores where the system allows.

        Raises:
            EvaluationError: ONNX Runtime cannot load or run it.
        """
        started = time.perf_counter()
        runner = session(artifact, self.n_threads)
        load_ms = (time.perf_counter() - started) * 1e3
        run, reference, meter = single_run(runner), _reference_run(self.n_threads), Rapl.found()
        limits = self.n_runs, self.tightness, self.max_seconds
        with pinned(self.n_threads) as cores:
            try:
                times, summary = in_turn(run, reference, *limits)
                energy_mj = None if meter is None else meter.per_run_mj(run)
            except Exception as error:  # the runtime's errors share no other base
                raise EvaluationError(f"ONNX Runtime cannot run {artifact.name}: {error}") from None
        p10, p25, p50, p75, p90, p99 = np.percentile(times[:, 0], (10, 25, 50, 75, 90, 99))
        return Profile(
            latency_ms=LatencyQuantiles(float(p10), float(p50), float(p90), float(p99)),
            latency_interval=summary.median_interval,
            latency_ratio=summary.ratio,
            ratio_interval=summary.ratio_interval,
            n_runs=len(times),
            spread=float((p75 - p25) / p50),
            load_ms=load_ms,
            peak_memory_bytes=Isolated().peak_memory(artifact) if self.measures_memory else None,
            energy_mj=energy_mj,
            conditions=self._conditions(artifact, cores, float(np.median(times[:, 1]))),
        )

    def _conditions(
        self, artifact: Path, cores: Sequence[int] | None, reference_ms: float
    ) -> Mapping[str, Any]:
        return {
            "device": "cpu",
            "processor": processor_name(),
            "runtime": f"onnxruntime {ort.__version__}",
            "threads": self.n_threads,
            "cores": None if cores is None else list(cores),
            "batch": 1,
            "reference_ms": reference_ms,
            "measured_at": time.time(),
            **asdict(execution(artifact, self.n_threads)),
        }


def _reference_run(n_threads: int) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    model = reference_model()
    return single_run(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]))
