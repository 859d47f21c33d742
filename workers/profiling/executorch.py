"""Latency on this machine's CPU through ExecuTorch and XNNPACK (extra `executorch`)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nas.core import EvaluationError
from workers.executorch.lowering import convert
from workers.executorch.program import execution, single_run
from workers.profiling._base import CpuProfiler
from workers.profiling.timing import Run

SUFFIX = ".pte"


@dataclass(frozen=True)
class ExecuTorchProfiler(CpuProfiler):
    """ExecuTorch's runtime with XNNPACK's kernels, which phones run; ONNX files are converted.

    What is loaded, timed and measured is the program; conversion is in no figure.
    """

    @property
    def name(self) -> str:
        """`executorch`."""
        return "executorch"

    @property
    def label(self) -> str:
        """Name and version."""
        return f"executorch {version('executorch')} xnnpack"

    def converted(self, artifact: Path, folder: Path) -> Path:
        """The program, made in `folder` where the artifact is not one.

        Raises:
            EvaluationError: it cannot be converted, or layers are to be timed.
        """
        if self.layer_runs:
            self.layer_ms(artifact)
        if artifact.suffix == SUFFIX:
            return artifact
        made = folder / f"{artifact.stem}{SUFFIX}"
        convert(artifact, made)
        return made

    def load(self, model: Path | bytes) -> Run:
        """A program that runs once per call; `bytes` are an ONNX model.

        Raises:
            EvaluationError: ExecuTorch cannot convert or load it.
        """
        if isinstance(model, bytes):
            return single_run(_program(model), self.n_threads)
        with tempfile.TemporaryDirectory() as folder:
            return single_run(self.converted(model, Path(folder)), self.n_threads)

    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """Kernels by type and precision, and what XNNPACK left to plain loops."""
        return execution(artifact, self.n_threads)

    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """Refuses: XNNPACK's events bear the names of kernels, not of layers.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError(f"{self.label} does not tell what layers take")


@cache
def _program(model: bytes) -> bytes:
    """An ONNX model as a program, converted once in a process."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "model.onnx", Path(folder) / "model.pte"
        source.write_bytes(model)
        convert(source, made)
        return made.read_bytes()
