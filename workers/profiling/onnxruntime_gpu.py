"""Latency of ONNX files on an NVIDIA GPU through ONNX Runtime: CUDA, and TensorRT in front of it.

Needs the package `onnxruntime-gpu` in place of `onnxruntime`, and for TensorRT its libraries.
Inputs and outputs stay on the GPU, so that copies are not timed.

Reference: ONNX Runtime's documentation, "I/O Binding" and "CUDA Execution Provider".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from nas.core import EvaluationError
from workers.profiling._base import FileProfiler
from workers.profiling.energy import Meter, Nvml
from workers.profiling.runtime import Provider, execution, made_up_inputs, session
from workers.profiling.timing import Run, timed

CPU: Provider = "CPUExecutionProvider"
CUDA: Provider = ("CUDAExecutionProvider", {"device_id": "0"})
TENSORRT: Provider = ("TensorrtExecutionProvider", {"device_id": "0"})


@dataclass(frozen=True)
class OnnxRuntimeGpuProfiler(FileProfiler):
    """ONNX Runtime with a GPU's provider first; what that cannot run falls back, and is told."""

    @property
    @abstractmethod
    def providers(self) -> Sequence[Provider]:
        """In order of preference; the first must be there."""

    @property
    def label(self) -> str:
        """Name and version."""
        return f"{self.name} {ort.__version__}"

    @property
    def device(self) -> str:
        """`cuda:0`."""
        return "cuda:0"

    def load(self, model: Path | bytes) -> Run:
        """A session that runs once per call and returns when the GPU is done.

        Raises:
            EvaluationError: ONNX Runtime cannot load it, or has no such provider here.
        """
        wanted = self._first
        if wanted not in ort.get_available_providers():
            raise EvaluationError(f"{self.label} has no {wanted} here")
        runner = session(model, self.n_threads, self.providers)
        if wanted not in runner.get_providers():
            raise EvaluationError(f"{self.label}: {wanted} cannot be used here")
        binding = runner.io_binding()
        for name, values in made_up_inputs(runner).items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values, "cuda", 0))
        for output in runner.get_outputs():
            binding.bind_output(output.name, "cuda", 0)

        def run() -> None:
            runner.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def seconds(self, run: Run) -> float:
        """By the wall clock, from submission to the GPU's answer."""
        return timed(run)

    def meter(self) -> Meter | None:
        """The GPU's."""
        return Nvml.found()

    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """Operators by type and precision, and by provider: what fell back to the CPU."""
        return asdict(execution(artifact, self.n_threads, self.providers))

    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """Refuses: the profiler tells when the CPU launched a kernel, not what it took.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError(f"{self.label} does not tell what layers take")

    @property
    def _first(self) -> str:
        first = self.providers[0]
        return first if isinstance(first, str) else first[0]


@dataclass(frozen=True)
class OnnxRuntimeCudaProfiler(OnnxRuntimeGpuProfiler):
    """CUDA kernels."""

    @property
    def name(self) -> str:
        """`onnxruntime-cuda`."""
        return "onnxruntime-cuda"

    @property
    def providers(self) -> Sequence[Provider]:
        """CUDA, then the CPU."""
        return CUDA, CPU


@dataclass(frozen=True)
class OnnxRuntimeTensorRtProfiler(OnnxRuntimeGpuProfiler):
    """TensorRT engines for what it takes, CUDA kernels for the rest."""

    @property
    def name(self) -> str:
        """`onnxruntime-tensorrt`."""
        return "onnxruntime-tensorrt"

    @property
    def providers(self) -> Sequence[Provider]:
        """TensorRT, CUDA, then the CPU."""
        return TENSORRT, CUDA, CPU
