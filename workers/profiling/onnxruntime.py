"""Latency of ONNX files on this machine's CPU through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from workers.profiling._base import CpuProfiler
from workers.profiling.runtime import execution, layer_ms, session, single_run
from workers.profiling.timing import Run


@dataclass(frozen=True)
class OnnxRuntimeProfiler(CpuProfiler):
    """ONNX Runtime's own kernels for the CPU."""

    @property
    def name(self) -> str:
        """`onnxruntime`."""
        return "onnxruntime"

    @property
    def label(self) -> str:
        """Name and version."""
        return f"onnxruntime {ort.__version__}"

    def load(self, model: Path | bytes) -> Run:
        """A session that runs once per call.

        Raises:
            EvaluationError: ONNX Runtime cannot load it.
        """
        return single_run(session(model, self.n_threads))

    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """Operators by type and precision."""
        return asdict(execution(artifact, self.n_threads))

    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """By the runtime's profiler."""
        return layer_ms(artifact, self.layer_runs, self.n_threads)
