"""Profilers by the name of their runtime; each is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas.core import EvaluationError, UnknownNameError

if TYPE_CHECKING:
    from workers.profiling._base import FileProfiler

DEFAULT = "onnxruntime"
RUNTIMES: Mapping[str, str] = {
    DEFAULT: "workers.profiling.onnxruntime:OnnxRuntimeProfiler",
    "openvino": "workers.profiling.openvino:OpenVinoProfiler",
    "executorch": "workers.profiling.executorch:ExecuTorchProfiler",
    "onnxruntime-cuda": "workers.profiling.onnxruntime_gpu:OnnxRuntimeCudaProfiler",
    "onnxruntime-tensorrt": "workers.profiling.onnxruntime_gpu:OnnxRuntimeTensorRtProfiler",
}
"""Module and class by name, of those that run ONNX files."""
EXTRAS = ("openvino", "executorch")
"""Runtimes that `pip install 'nas[NAME]'` brings."""


def profiler(runtime: str = DEFAULT, **settings: Any) -> FileProfiler:
    """The profiler of a runtime.

    Args:
        runtime: its name.
        settings: fields of the profiler.

    Raises:
        UnknownNameError: no such runtime.
        EvaluationError: it is not installed here.
        TypeError: settings that do not exist.
    """
    if runtime not in RUNTIMES:
        raise UnknownNameError("runtime", runtime, RUNTIMES)
    module, name = RUNTIMES[runtime].split(":")
    try:
        found: type[FileProfiler] = getattr(import_module(module), name)
    except ImportError as error:
        remedy = f"; pip install 'nas[{runtime}]'" if runtime in EXTRAS else ""
        raise EvaluationError(f"runtime {runtime} is not installed here: {error}{remedy}") from None
    return found(**settings)
