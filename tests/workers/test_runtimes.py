"""Every runtime's profiler: the same promises, kept by whatever is installed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import searchspaces
from nas.core import EvaluationError, Profile, UnknownNameError
from tests.workers.test_modules import evenly
from workers.comparison import built
from workers.deployment import export_onnx
from workers.isolation import Isolated
from workers.profiling._base import FileProfiler
from workers.profiling.layers import layers_of, write_layers
from workers.profiling.reference import reference_model
from workers.runtimes import RUNTIMES, profiler

READS_PROFILES = {
    "onnxruntime": "workers.profiling.runtime",
    "openvino": "workers.profiling.openvino",
}
FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1, "depths": [1]})


@pytest.fixture(params=list(RUNTIMES))
def runtime(request: pytest.FixtureRequest) -> str:
    """Names of runtimes that work here; others are skipped, saying why."""
    try:
        chosen = profiler(request.param)
        chosen.load(reference_model())
    except EvaluationError as error:
        pytest.skip(str(error))
    return str(request.param)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.onnx"
    path.write_bytes(reference_model())
    return path


def int8_file(path: Path) -> Path:
    rows = FAMILY.space.sample(60, np.random.default_rng(0))
    candidates = [FAMILY.space.candidate(row) for row in rows]
    eight = [c for c in candidates if all(b == (8, 8) for b in FAMILY.bits(c).values())]
    export_onnx(built(FAMILY, eight[0], True, True), FAMILY.input_shape, path)
    return path


def of(runtime: str, tmp_path: Path, **settings: int) -> FileProfiler:
    return profiler(runtime, calibrations=str(tmp_path / "kept"), **settings)


def test_a_file_against_itself_has_ratio_one(runtime: str, reference: Path, tmp_path: Path) -> None:
    chosen = of(runtime, tmp_path, n_runs=200)
    profile = chosen.profile(reference)
    assert 0.5 < profile.latency_ratio < 2.0
    assert profile.reference_ms == chosen.calibration().reference_ms
    about = profile.conditions
    assert about["runtime"] == chosen.label and about["device"] == chosen.device
    assert about["weighted"] == {"float32": 4}  # and not what the runtime would rather compute
    assert sum(about["shares"].values()) == pytest.approx(1.0)
    assert Profile.from_json(profile.to_json()) == profile


def test_quantized_files_run_and_what_they_executed_is_told(runtime: str, tmp_path: Path) -> None:
    path = int8_file(tmp_path / "int8.onnx")
    chosen = of(runtime, tmp_path, n_runs=30)
    profile = chosen.profile(path)
    assert profile.calm_ms > 0.0
    weighted = profile.conditions["weighted"]
    if chosen.device != "cpu":
        return  # GPUs may compute it in float, and TensorRT as one operator
    assert sum(weighted.values()) >= 4 and weighted.get("int8", 0) >= 1


def test_layers_are_timed(runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if runtime in READS_PROFILES:
        monkeypatch.setattr(f"{READS_PROFILES[runtime]}.calm_layers", evenly)
    layers = layers_of(int8_file(tmp_path / "int8.onnx"))
    path = tmp_path / "layers.onnx"
    write_layers(layers, path)
    chosen = of(runtime, tmp_path, n_runs=30, layer_runs=20)
    if chosen.device != "cpu" or runtime == "executorch":
        with pytest.raises(EvaluationError, match="does not tell"):
            chosen.profile(path)
        return
    found = chosen.profile(path).conditions["layers_ms"]
    main = [f"L{i}" for i, layer in enumerate(layers) if "Conv" in layer.kind]
    assert main and set(main) <= set(found) and "empty" not in found
    assert all(ms > 0.0 for ms in found.values())


def test_broken_files_are_one_sentence(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"cannot load broken\.onnx"):
        of(runtime, tmp_path).profile(path)


def test_a_child_times_with_any_runtime(runtime: str, reference: Path, tmp_path: Path) -> None:
    settings = {"runtime": runtime, "n_runs": 30, "calibrations": str(tmp_path)}
    profile = Isolated().profile(reference, settings)
    assert profile.conditions["runtime"].startswith(profiler(runtime).label)
    assert profile.peak_memory_bytes is None or profile.peak_memory_bytes >= 0


def test_runtimes_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="openvino"):
        profiler("none")
    monkeypatch.setitem(RUNTIMES, "gone", "workers.profiling.no_such_module:X")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="gone is not installed here"):
        profiler("gone")
