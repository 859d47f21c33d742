"""Timing files: what is told, what is refused, what the statistics mean."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import searchspaces
from nas.core import EvaluationError, InvalidInputError, LatencyQuantiles, Profile
from workers.comparison import Comparison, compared, plain_forms, warnings
from workers.deployment import export_onnx
from workers.isolation import Isolated
from workers.profiling import OnnxRuntimeProfiler
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
    assert profile.latency_ratio == pytest.approx(1.0, abs=0.2)
    assert profile.n_runs == 300
    low, high = profile.latency_interval
    assert low <= profile.latency_ms.p50 <= high
    assert profile.conditions["weighted"] == {"float32": 4}
    assert Profile.from_json(profile.to_json()) == profile


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
    peak = Isolated().peak_memory(path)
    assert peak is not None and peak > 16_000_000  # the weights alone
    with pytest.raises(EvaluationError, match=r"cannot|ended|Memory"):
        Isolated(max_bytes=12_000_000).profile(path, {"n_runs": 30})
    with pytest.raises(EvaluationError, match="not done after"):
        Isolated(max_seconds=0.01).peak_memory(path)
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
    )
    path = tmp_path / "float.onnx"  # pretends to be quantized: everything runs in float
    forms = plain_forms(family, quantized)
    export_onnx(forms["float32"](), family.input_shape, path)
    profiler = OnnxRuntimeProfiler(n_runs=60)
    profile = profiler.profile(path)
    found = compared(family, quantized, profile, profiler)
    assert {c.form for c in found} == set(forms)
    assert next(c for c in found if c.form == "float32").speedup == pytest.approx(1.0, abs=0.4)
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


def _profile() -> Profile:
    quantiles = LatencyQuantiles(1.0, 2.0, 3.0, 4.0)
    return Profile(quantiles, (1.9, 2.1), 1.5, (1.4, 1.6), 100, 0.1, 3.0, None, None, {})
