"""Latency of ONNX files on this machine's CPU through OpenVINO (extra `openvino`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from nas.core import EvaluationError
from workers.profiling._base import CpuProfiler
from workers.profiling.layer_times import calm_layers
from workers.profiling.timing import Run

PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
WEIGHTED = ("Convolution", "FullyConnected", "MatMul")
CONVERSIONS = ("Reorder", "Convert", "FakeQuantize")
N_PROFILED = 2


@dataclass(frozen=True)
class OpenVinoProfiler(CpuProfiler):
    """OpenVINO's CPU plugin, one stream, made for latency.

    Floats stay float32: the plugin would turn them to bfloat16 where the processor is faster so,
    which is not what the file says.
    """

    @property
    def name(self) -> str:
        """`openvino`."""
        return "openvino"

    @property
    def label(self) -> str:
        """Name and version."""
        return f"openvino {ov.__version__.partition('-')[0]}"

    def load(self, model: Path | bytes) -> Run:
        """A request that is inferred once per call.

        Raises:
            EvaluationError: OpenVINO cannot load it.
        """
        request = self._request(model, profiles=False)
        return lambda: request.infer()

    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """Operators by type and precision, by the plugin's own profile of one run."""
        events = self._profiled(artifact, N_PROFILED)[-1]
        times: Counter[str] = Counter()
        for event in events:
            times[_precision(event)] += event.real_time.total_seconds()
        total = sum(times.values()) or 1.0
        weighted = [e for e in events if e.node_type in WEIGHTED]
        return {
            "operators": dict(sorted(Counter(e.node_type for e in events).items())),
            "weighted": dict(sorted(Counter(map(_precision, weighted)).items())),
            "shares": {kind: time / total for kind, time in sorted(times.items())},
        }

    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """By the plugin's profile; conversions it puts between layers are not in it.

        Raises:
            EvaluationError: OpenVINO cannot run it.
        """
        runs = self._profiled(artifact, self.layer_runs)
        return calm_layers(
            [[(e.node_name, e.real_time.total_seconds() * 1e6) for e in run] for run in runs]
        )

    def _profiled(self, artifact: Path, n_runs: int) -> list[list[Any]]:
        request, found = self._request(artifact, profiles=True), []
        for _ in range(n_runs):
            request.infer()
            events = request.get_profiling_info()
            found.append([e for e in events if e.status == ov.ProfilingInfo.Status.EXECUTED])
        return found

    def _request(self, model: Path | bytes, profiles: bool) -> Any:
        name = "the model" if isinstance(model, bytes) else model.name
        try:
            core = ov.Core()
            network = core.read_model(model if isinstance(model, bytes) else str(model))
            network.reshape({port: _fixed(port.partial_shape) for port in network.inputs})
            request = core.compile_model(network, "CPU", self._options(profiles))
            request = request.create_infer_request()
            rng = np.random.default_rng(0)
            for port in network.inputs:
                values: NDArray[Any] = rng.normal(size=list(port.shape))
                tensor = ov.Tensor(values.astype(port.element_type.to_dtype()))
                request.set_tensor(port.any_name, tensor)
        except Exception as error:  # the runtime's errors share no other base
            raise EvaluationError(f"OpenVINO cannot load {name}: {error}") from error
        return request

    def _options(self, profiles: bool) -> Mapping[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.n_threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
            "PERF_COUNT": profiles,
        }


def _fixed(shape: Any) -> list[int]:
    """A partial shape with 1 for what is free."""
    return [dim.get_length() if dim.is_static else 1 for dim in shape]


def _precision(event: Any) -> str:
    if event.node_type in CONVERSIONS:
        return "conversion"
    suffix = event.exec_type.rpartition("_")[2].lower()
    return PRECISIONS.get(suffix, suffix or "other")
