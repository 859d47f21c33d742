"""Timing files: what is told, what is refused, what the statistics mean."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import searchspaces
from nas.core import EvaluationError, InvalidInputError, LatencyQuantiles, Profile, Profiler
from workers.comparison import Comparison, compared, plain_forms, warnings
from workers.deployment import export_onnx
from workers.isolation import Isolated
from workers.profiling import OnnxRuntimeProfiler, calibration
from workers.profiling.calibration import Calibration, calibrated
from workers.profiling.energy import Rapl
from workers.profiling.reference import reference_model
from workers.profiling.runtime import execution
from workers.profiling.timing import Summary, in_turn


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.onnx"
    path.write_bytes(reference_model())
    return path


def test_the_reference_is_the_network_its_docstring_tells(reference: Path) -> None:
    model = onnx.load(reference)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Conv", "Relu"] * 4
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        expected = rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32)
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), expected)


def test_a_file_against_itself_has_ratio_one(reference: Path) -> None:
    profile = OnnxRuntimeProfiler(n_runs=300, tightness=0.0).profile(reference)
    assert 0.5 < profile.latency_ratio < 2.0
    assert profile.n_runs == 300
    low, high = profile.latency_interval
    assert low <= profile.latency_ms.p50 <= high
    assert profile.conditions["weighted"] == {"float32": 4}
    assert Profile.from_json(profile.to_json()) == profile


def test_milliseconds_are_the_ratio_times_the_kept_reference(
    reference: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    profiler = OnnxRuntimeProfiler(n_runs=60, calibrations=str(folder))
    kept = profiler.calibration()
    (file,) = folder.iterdir()
    assert Calibration.read(file) == kept and 0.0 < kept.reference_ms < 1e3
    file.write_text(json.dumps({**asdict(kept), "reference_ms": 500.0}))
    profile = profiler.profile(reference)  # the kept figure counts, not what it takes now
    assert profile.metrics["latency_ms"] == profile.latency_ratio * 500.0
    assert profile.calm_interval[0] <= profile.calm_ms <= profile.calm_interval[1]
    assert profile.metrics["latency_p50_ms"] == profile.latency_ms.p50 < 100.0
    assert profile.conditions["reference_drift"] < -0.8  # it says that the device is faster now
    unknown = replace(profile, reference_ms=None)
    assert unknown.calm_ms == profile.latency_ms.p50


def test_a_calibration_is_of_one_runtime_and_the_first_to_finish_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "SECONDS", 0.02)

    def other() -> None:
        if not list(tmp_path.glob("*.json")):
            calibrated(lambda: 0.001, "a 1", 1, tmp_path)  # another process, a little faster
            first.append(Calibration.read(next(tmp_path.glob("*.json"))))

    first: list[Calibration | None] = []

    def run() -> float:
        other()
        return 0.002

    assert calibrated(run, "a 1", 1, tmp_path) == first[0]
    assert first[0] is not None and first[0].reference_ms == pytest.approx(1.0)
    calibrated(lambda: 0.003, "a 2", 1, tmp_path)
    calibrated(lambda: 0.003, "a 1", 2, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    broken = next(tmp_path.glob("*.json"))
    broken.write_text("{")
    assert Calibration.read(broken) is None
    unwritable = Path("/proc/none")
    assert calibrated(lambda: 0.003, "a 1", 1, unwritable).reference_ms == pytest.approx(3.0)


def test_timing_ends_when_it_is_tight_enough_or_time_is_up() -> None:
    def steady() -> None:
        time.sleep(0.0005)

    loose, _ = in_turn(steady, steady, n_runs=2000, tightness=10.0, max_seconds=60)
    assert len(loose) == 100
    hurried, _ = in_turn(steady, steady, n_runs=2000, tightness=0.0, max_seconds=0.0)
    assert 30 <= len(hurried) <= 100


@given(factor=st.floats(0.1, 10.0), noise=st.floats(0.0, 3.0), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_ratio_survives_noise_that_only_adds(factor: float, noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    disturbed = rng.exponential(noise, (300, 2)) * (rng.random((300, 2)) < 0.7)
    times = np.array([factor, 1.0]) * (1 + 0.002 * rng.random((300, 2))) + disturbed
    summary = Summary.of(times)
    assert summary.ratio == pytest.approx(factor, rel=0.01)
    assert summary.ratio_interval[0] <= summary.ratio_interval[1]
    assert summary.median_interval[0] <= np.median(times[:, 0]) <= summary.median_interval[1]


def test_memory_and_limits_hold_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    _write_product(path, side=2000)
    peak = Isolated().peak_memory(path, "onnxruntime")
    assert peak is not None and peak > 16_000_000  # the weights alone
    with pytest.raises(EvaluationError, match=r"cannot|ended|Memory"):
        Isolated(max_bytes=12_000_000).profile(path, {"n_runs": 30})
    with pytest.raises(EvaluationError, match="not done after"):
        Isolated(max_seconds=0.01).peak_memory(path, "onnxruntime")
    with pytest.raises(EvaluationError, match="on request"):
        Isolated().profile(path, {"n_runs": 30}, goes_on=lambda: False)
    profile = Isolated().profile(path, {"n_runs": 30})
    assert profile.peak_memory_bytes == pytest.approx(peak, rel=0.5)


def test_a_crash_of_the_child_is_one_sentence(reference: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"cannot load broken\.onnx"):
        Isolated().profile(tmp_path / "broken.onnx", {})
    with pytest.raises(EvaluationError, match="no_such_setting"):
        Isolated().profile(reference, {"no_such_setting": 1})


def test_profiling_needs_no_torch() -> None:
    program = (
        "import sys, workers.profiling.child\n"
        "assert not {'torch', 'onnx', 'ray', 'sqlalchemy', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_energy_is_what_the_counters_rose_by(tmp_path: Path) -> None:
    assert Rapl.found(tmp_path / "none") is None
    counters = [tmp_path / f"intel-rapl:{i}" / "energy_uj" for i in range(2)]
    for counter in counters:
        counter.parent.mkdir()
        counter.write_text("1000")
    meter = Rapl.found(tmp_path)
    assert meter is not None

    def run() -> None:
        for counter in counters:
            counter.write_text(str(int(counter.read_text()) + 500))

    assert meter.per_run_mj(run, seconds=0.0) == pytest.approx(1.0)

    def wrap() -> None:
        counters[0].write_text("3")

    assert meter.per_run_mj(wrap, seconds=0.0) is None


@pytest.mark.parametrize("body", [{}, {"latency_ms": 3}, {"n_runs": "many"}])
def test_profiles_that_are_none_are_refused(body: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="profile"):
        Profile.from_json(body)
    nan = {**_profile().to_json(), "load_ms": float("nan")}
    with pytest.raises(InvalidInputError, match="finite"):
        Profile.from_json(nan)


def test_plain_forms_are_those_the_candidate_has() -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1})
    rows = family.space.sample(64, np.random.default_rng(0))
    for row in rows[:12]:
        candidate = family.space.candidate(row)
        forms = plain_forms(family, candidate)
        quantized = any(w < 32 for w, _ in family.bits(candidate).values())
        assert ("float32" in forms) == quantized
        for build in forms.values():
            assert sum(p.numel() for p in build().parameters()) > 0


def test_compression_that_slows_down_is_told(tmp_path: Path) -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1})
    row = family.space.sample(200, np.random.default_rng(3))
    quantized = next(
        c
        for c in map(family.space.candidate, row)
        if all(w <= 8 and a <= 8 for w, a in family.bits(c).values())
        and len(plain_forms(family, c)) == 2
    )
    path = tmp_path / "float.onnx"  # pretends to be quantized: everything runs in float
    forms = plain_forms(family, quantized)
    export_onnx(forms["float32"](), family.input_shape, path)
    profile = replace(OnnxRuntimeProfiler(n_runs=30).profile(path), **_ratio(1.5))
    found = {c.form: c for c in compared(family, quantized, profile, _Told(1.5, 0.75))}
    assert list(found) == ["float32", "dense"]
    assert (found["float32"].speedup, found["float32"].is_slower) == (1.0, False)
    assert (found["dense"].speedup, found["dense"].is_slower) == (0.5, True)
    assert found["dense"].latency_ms == 0.75
    slow = Comparison("float32", 1.0, 0.5, is_slower=True)
    said = warnings(family.bits(quantized), profile, [slow])
    assert any("slower than its float32 form here: 2.00 times" in line for line in said)
    assert any("ran in float" in line for line in said)


def _write_product(path: Path, side: int) -> None:
    weight = np.zeros((side, side), np.float32)
    weight[0, 0] = 1.0
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, side])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    assert execution(path).weighted == {"float32": 1}


class _Told(Profiler):
    """Tells one ratio after the other, of files that are there."""

    def __init__(self, *ratios: float) -> None:
        self._ratios = iter(ratios)

    def profile(self, path: Path) -> Profile:
        assert execution(path).weighted
        return replace(_profile(), **_ratio(next(self._ratios)))


def _ratio(ratio: float) -> dict[str, Any]:
    return {
        "latency_ratio": ratio,
        "ratio_interval": (0.9 * ratio, 1.1 * ratio),
        "reference_ms": 1.0,
    }


def _profile() -> Profile:
    quantiles = LatencyQuantiles(1.0, 2.0, 3.0, 4.0)
    return Profile(quantiles, (1.9, 2.1), 1.5, (1.4, 1.6), 100, 0.1, 3.0, None, None, {})
