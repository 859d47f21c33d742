"""Profilers of GPUs: what holds without one, and (marker `gpu`) what holds with one."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import searchspaces
from nas.core import EvaluationError
from searchspaces.plain import plain_module_source
from workers.comparison import built
from workers.profiling.energy import Nvml
from workers.profiling.torch_cuda import TAKES, TorchCudaProfiler
from workers.runtimes import RUNTIMES, profiler

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def plain_file(folder: Path) -> Path:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1, "depths": [1]})
    row = family.space.sample(1, np.random.default_rng(0))[0]
    network = built(family, family.space.candidate(row), True, True)
    source, state = plain_module_source(network, torch.zeros(2, 1, 8, 8), "a test")
    (folder / "model.py").write_text(source)
    save_file(state, folder / "model.safetensors")
    return folder / "model.py"


class Driver:
    """NVML's three functions over a counter of a fake GPU."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.millijoules = status, 1000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, out: object) -> int:  # noqa: N802
        ctypes.cast(out, ctypes.POINTER(ctypes.c_ulonglong))[0] = self.millijoules  # type: ignore[arg-type]
        return self.status


def test_energy_is_what_nvmls_counter_rose_by() -> None:
    driver = Driver()

    def run() -> None:
        driver.millijoules += 7

    assert Nvml(driver, None).per_run_mj(run, seconds=0.0) == 7.0
    assert Nvml(Driver(status=3), None).per_run_mj(run, seconds=0.0) is None
    assert Nvml.found(name="libno-such-thing.so") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_without_a_gpu_it_is_said(name: str, tmp_path: Path) -> None:
    path = plain_file(tmp_path)
    with pytest.raises(EvaluationError, match="ExecutionProvider"):
        profiler(name).profile(path)
    with pytest.raises(EvaluationError, match="needs a CUDA device"):
        TorchCudaProfiler().profile(path)


def test_generated_modules_say_what_images_they_take(tmp_path: Path) -> None:
    found = TAKES.search(plain_file(tmp_path).read_text())
    assert found is not None and found.groups() == ("1", "8", "8")


def test_agents_never_load_torch_for_a_runtime() -> None:
    assert not any("torch_cuda" in place for place in RUNTIMES.values())
    program = (
        "import sys, workers.profiling.onnxruntime_gpu, workers.profiling.child\n"
        "assert not {'torch', 'ray', 'sqlalchemy', 'onnx', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@needs_gpu
def test_events_tell_less_than_the_wall_clock_and_repeat(tmp_path: Path) -> None:
    path = plain_file(tmp_path)
    chosen = TorchCudaProfiler(n_runs=200, calibrations=str(tmp_path))
    one, other = chosen.profile(path), chosen.profile(path)
    assert one.latency_ratio == pytest.approx(other.latency_ratio, rel=0.2)
    assert 0.0 < one.latency_ms.p50 <= one.conditions["wall_ms"] * 1.2
    assert one.conditions["wall_ms"] < one.conditions["eager_wall_ms"]
    assert one.conditions["gpu_memory_bytes"] > 0


@pytest.mark.gpu
@needs_gpu
def test_a_replayed_graph_computes_what_the_module_does(tmp_path: Path) -> None:
    from workers.profiling.torch_cuda import _captured, _network

    network, x = _network(plain_file(tmp_path))
    replay = _captured(network, x)
    with torch.inference_mode():
        expected = network(x)
        x.mul_(0.5)
        halved = network(x)
    out = replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(out, halved, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(halved, expected)
