"""Latency of a finalist's plain PyTorch module on an NVIDIA GPU: CUDA events around CUDA graphs.

It runs `model.py` with the `model.safetensors` beside it, code that this system wrote: it is no
runtime of agents, which take files from a server.

Reference: PyTorch's documentation, "CUDA semantics", sections on graphs and on asynchronous
execution.
"""

from __future__ import annotations

import re
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nas.core import EvaluationError
from workers.profiling._base import FileProfiler
from workers.profiling.energy import Meter, Nvml
from workers.profiling.reference import N_LAYERS, SIDE, WIDTH
from workers.profiling.timing import Run, timed

TAKES = re.compile(r"Takes images \(batch, (\d+), (\d+), (\d+)\)")
N_BEFORE_CAPTURE = 3
"""Passes on the capturing stream, in which libraries choose kernels and take memory."""


@dataclass(frozen=True)
class TorchCudaProfiler(FileProfiler):
    """A replayed graph, timed on the GPU; launches cost no time between kernels."""

    @property
    def name(self) -> str:
        """`torch-cuda`."""
        return "torch-cuda"

    @property
    def label(self) -> str:
        """Versions of PyTorch and CUDA, and the GPU."""
        return f"torch {torch.__version__} cuda {torch.version.cuda} {self.device}"

    @property
    def device(self) -> str:
        """Name of the GPU."""
        return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"

    def load(self, model: Path | bytes) -> Run:
        """A captured graph that is replayed once per call, without waiting for it.

        Raises:
            EvaluationError: no GPU, or a module that cannot be loaded or captured.
        """
        if not torch.cuda.is_available():
            raise EvaluationError("torch-cuda needs a CUDA device")
        try:
            network, x = _reference() if isinstance(model, bytes) else _network(model)
            return _captured(network, x)
        except Exception as error:  # generated code and CUDA raise what they like
            name = "the reference" if isinstance(model, bytes) else model.name
            raise EvaluationError(f"torch-cuda cannot load {name}: {error}") from error

    def seconds(self, run: Run) -> float:
        """By events on the GPU, before and after."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def meter(self) -> Meter | None:
        """The GPU's."""
        return Nvml.found()

    def executed(self, artifact: Path) -> Mapping[str, Any]:
        """Wall-clock milliseconds beside the GPU's, of the graph and eagerly, and peak memory."""
        network, x = _network(artifact)
        torch.cuda.reset_peak_memory_stats()
        eager = _waiting(lambda: network(x))
        replayed = _waiting(_captured(network, x))
        return {
            "wall_ms": _median_ms(replayed),
            "eager_wall_ms": _median_ms(eager),
            "gpu_memory_bytes": torch.cuda.max_memory_allocated(),
            "tf32": torch.backends.cudnn.allow_tf32,
            "weighted": {"float32": sum(isinstance(m, WEIGHTED) for m in network.modules())},
        }

    def layer_ms(self, artifact: Path) -> Mapping[str, float]:
        """Refuses: kernels of a graph have no layers.

        Raises:
            EvaluationError: always.
        """
        raise EvaluationError("torch-cuda does not tell what layers take")


WEIGHTED = (nn.Conv2d, nn.Linear)


def _network(path: Path) -> tuple[nn.Module, Tensor]:
    """The module of a generated file, and an image for it, on the GPU."""
    source = path.read_text()
    found = TAKES.search(source)
    if found is None:
        raise EvaluationError(f"{path.name} does not say what images it takes")
    network: nn.Module = runpy.run_path(str(path))["Network"]()
    network.load_state_dict(load_file(path.with_suffix(".safetensors")))
    shape = [int(size) for size in found.groups()]
    x = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    return network.eval().cuda(), x.cuda()


def _reference() -> tuple[nn.Module, Tensor]:
    """The reference network's layers, with other random weights."""
    layers = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False) for _ in range(N_LAYERS)]
    network = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))
    return network.eval().cuda(), torch.randn(1, WIDTH, SIDE, SIDE).cuda()


def _captured(network: nn.Module, x: Tensor) -> Run:
    """Warmed up and captured on one stream of its own, as libraries keep state by stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(N_BEFORE_CAPTURE):
            network(x)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph, stream=stream):
        out = network(x)

    def replay() -> Tensor:
        graph.replay()  # reads `x` and writes `out`, which must both live as long
        return out

    return replay


def _waiting(run: Run) -> Run:
    def whole() -> None:
        with torch.inference_mode():
            run()
        torch.cuda.synchronize()

    return whole


def _median_ms(run: Run) -> float:
    times = sorted(timed(run) for _ in range(50))
    return times[len(times) // 2] * 1e3
