"""Latency of ONNX files on this machine's CPU through ONNX Runtime."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nas.core import LatencyQuantiles, Profile, Profiler
from workers.deployment import executed_operators, session
from workers.machine import processor_name
from workers.profiling.reference import SIDE, WIDTH, reference_model

WARMUP_BLOCK = 20
MAX_WARMUP_BLOCKS = 15
STATIONARY = 0.05


@dataclass(frozen=True)
class OnnxRuntimeProfiler(Profiler):
    """Times single images, each run followed by one of a fixed reference network.

    Both see the same disturbances, so the ratio of their medians is steadier than either.

    Attributes:
        n_runs: timed runs after warm-up.
        n_threads: of the runtime's operators.
    """

    n_runs: int = 300
    n_threads: int = 1

    def profile(self, artifact: Path) -> Profile:
        """Load and time `artifact` with batch 1, pinned to one core where the system allows.

        Raises:
            EvaluationError: ONNX Runtime cannot load or run it.
        """
        started = time.perf_counter()
        runner = session(artifact, self.n_threads)
        load_ms = (time.perf_counter() - started) * 1e3
        run, reference = _single_image(runner), _reference_run(self.n_threads)
        with _pinned(self.n_threads):
            _warm_up(run)
            _warm_up(reference)
            times = np.array([(_timed(run), _timed(reference)) for _ in range(self.n_runs)]) * 1e3
        p10, p25, p50, p75, p90, p99 = np.percentile(times[:, 0], (10, 25, 50, 75, 90, 99))
        return Profile(
            latency_ms=LatencyQuantiles(float(p10), float(p50), float(p90), float(p99)),
            latency_ratio=float(p50 / np.median(times[:, 1])),
            n_runs=self.n_runs,
            spread=float((p75 - p25) / p50),
            load_ms=load_ms,
            peak_memory_bytes=None,
            energy_mj=None,
            conditions=self._conditions(artifact),
        )

    def _conditions(self, artifact: Path) -> Mapping[str, Any]:
        return {
            "device": "cpu",
            "processor": processor_name(),
            "runtime": f"onnxruntime {ort.__version__}",
            "threads": self.n_threads,
            "batch": 1,
            "operators": dict(executed_operators(artifact)),
        }


def _single_image(runner: ort.InferenceSession) -> Callable[[], object]:
    feed: dict[str, NDArray[np.float32]] = {
        spec.name: np.random.default_rng(0)
        .normal(size=[d if isinstance(d, int) else 1 for d in spec.shape])
        .astype(np.float32)
        for spec in runner.get_inputs()
    }
    return lambda: runner.run(None, feed)


def _reference_run(n_threads: int) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    runner = ort.InferenceSession(reference_model(), options, providers=["CPUExecutionProvider"])
    feed = {"images": np.ones((1, WIDTH, SIDE, SIDE), dtype=np.float32)}
    return lambda: runner.run(None, feed)


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _warm_up(run: Callable[[], object]) -> None:
    """Run until two blocks in a row have medians within 5 %, or enough blocks are done."""
    before = np.inf
    for _ in range(MAX_WARMUP_BLOCKS):
        now = float(np.median([_timed(run) for _ in range(WARMUP_BLOCK)]))
        if abs(now - before) <= STATIONARY * now:
            return
        before = now


@contextmanager
def _pinned(n_threads: int) -> Iterator[None]:
    """Keep this thread on the core it is on and the next ones, and free it again afterwards."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    after = sorted(core for core in allowed if core >= _current_core())
    before = sorted(allowed - set(after))
    os.sched_setaffinity(0, set([*after, *before][:n_threads]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _current_core() -> int:
    """The core this thread last ran on (field 39 of proc(5)'s stat); 0 where it is not told."""
    try:
        fields = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[36])
