"""Layers cut out of files, timed side by side, and tables of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import searchspaces
from nas.core import InvalidInputError
from workers.comparison import built
from workers.deployment import export_onnx
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.layers import Layer, counted, layers_of, write_layers
from workers.profiling.runtime import layer_ms
from workers.tables import LayerTable, LayerTime, table_path

FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 2, "depths": [1, 2]})


def exported(path: Path, seed: int, quantized: bool) -> Path:
    rows = FAMILY.space.sample(60, np.random.default_rng(seed))
    candidates = [FAMILY.space.candidate(row) for row in rows]
    integer = [all(max(b) <= 8 for b in FAMILY.bits(c).values()) for c in candidates]
    candidate = next(c for c, i in zip(candidates, integer, strict=True) if i or not quantized)
    export_onnx(built(FAMILY, candidate, True, quantized), FAMILY.input_shape, path)
    return path


def plain_run(path: Path, feed: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options).run(names, feed)


@pytest.mark.parametrize("quantized", [False, True])
def test_layers_compute_what_the_file_does(tmp_path: Path, quantized: bool) -> None:
    path = exported(tmp_path / "whole.onnx", 0, quantized)
    layers = layers_of(path)
    write_layers(layers, tmp_path / "layers.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "layers.onnx"), full_check=True)
    model = onnx.load(path)
    wanted = {v.name for layer in layers for v in (*layer.inputs, layer.output)}
    given = {v.name for v in model.graph.input}
    seen = {v.name for v in model.graph.output}
    hidden = sorted(wanted - given - seen)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in hidden)
    onnx.save(model, tmp_path / "open.onnx")
    x = np.random.default_rng(1).normal(size=(1, 1, 8, 8)).astype(np.float32)
    names = [*hidden, *seen]
    values = dict(zip(names, plain_run(tmp_path / "open.onnx", {"images": x}, names), strict=True))
    values["images"] = x
    feed = {f"L{i}.{v.name}": values[v.name] for i, la in enumerate(layers) for v in la.inputs}
    outputs = [f"L{i}.{layer.output.name}" for i, layer in enumerate(layers)]
    feed["nothing"] = np.zeros(1, np.float32)
    for layer, got in zip(layers, plain_run(tmp_path / "layers.onnx", feed, outputs), strict=True):
        np.testing.assert_allclose(got, values[layer.output.name], rtol=1e-4, atol=1e-5)
    n_nodes = {name for layer in layers for node in layer.nodes for name in node.output}
    assert {v.name for v in onnx.load(path).graph.output} <= n_nodes


def test_alike_layers_have_one_key_whatever_their_weights(tmp_path: Path) -> None:
    one, other = (layers_of(exported(tmp_path / f"{i}.onnx", 0, True)) for i in range(2))
    assert counted(one) == counted(other)
    assert len(counted(one)) > 5
    convolutions = [layer for layer in one if layer.kind == "Conv int8"]
    macs = [layer.work[0] for layer in convolutions]
    first = convolutions[0]
    assert first.inputs[0].type.tensor_type.shape.dim[1].dim_value == 1
    assert macs[0] == 9 * 16 * np.prod([d.dim_value for d in _dims(first)[2:]])


def _dims(layer: Layer) -> list[onnx.TensorShapeProto.Dimension]:
    return list(layer.output.type.tensor_type.shape.dim)


def test_every_layer_is_timed_and_the_profilers_own_time_taken_off(tmp_path: Path) -> None:
    layers = layers_of(exported(tmp_path / "whole.onnx", 0, True))
    path = tmp_path / "layers.onnx"
    write_layers(layers, path)
    found = layer_ms(path, 40)
    assert {f"L{i}" for i in range(len(layers))} <= set(found) and "empty" not in found
    assert all(ms >= 0.0 for ms in found.values())
    work = np.array([layer.work[0] for layer in layers])
    ms = np.array([found[f"L{i}"] for i in range(len(layers))])
    assert ms[work >= np.quantile(work, 0.8)].mean() > ms[work <= np.quantile(work, 0.2)].mean()
    profile = OnnxRuntimeProfiler(n_runs=30, layer_runs=20).profile(path)
    assert set(profile.conditions["layers_ms"]) == set(found)
    assert "layers_ms" not in OnnxRuntimeProfiler(n_runs=30).profile(path).conditions


def table_of(layers: list[Layer], keep: int = 1) -> LayerTable:
    """Layers take a microsecond, and a nanosecond for every ten multiply-accumulates."""
    times = {x.key: LayerTime(x.kind, x.work, 1e-3 + 1e-7 * x.work[0]) for x in layers}
    return LayerTable("pi", "runtime 1", dict(list(times.items())[::keep]))


def test_sums_are_fitted_to_whole_files(tmp_path: Path) -> None:
    files = [layers_of(exported(tmp_path / f"{i}.onnx", i, i % 2 == 0)) for i in range(5)]
    table = table_of([layer for file in files for layer in file])
    plain = np.array([table.sum_of(file).ms for file in files])
    n_layers = np.array([len(file) for file in files])
    truth = 1.5 * plain + 0.002 * n_layers
    fitted = table.fitted(files, list(truth))
    assert fitted.scale == pytest.approx(1.5) and fitted.per_layer_ms == pytest.approx(0.002)
    assert fitted.error == pytest.approx(0.0, abs=1e-6) and fitted.n_files == 5
    assert fitted.sum_of(files[0]).ms == pytest.approx(truth[0])
    assert fitted.sum_of(files[0]).n_interpolated == 0
    disturbed = table.fitted(files, list(truth * [1.0, 1.3, 1.0, 0.8, 1.0]))
    assert disturbed.error is not None and disturbed.error > 0.02
    assert table.fitted(files[:2], list(truth[:2])).error is None


def test_layers_that_a_table_lacks_are_interpolated(tmp_path: Path) -> None:
    files = [layers_of(exported(tmp_path / f"{i}.onnx", i, False)) for i in range(4)]
    every = [layer for file in files for layer in file]
    whole, sparse = table_of(every), table_of(every, keep=2)
    for file in files:
        told, truth = sparse.sum_of(file), whole.sum_of(file)
        assert 0 < told.n_interpolated < len(file)
        assert told.ms == pytest.approx(truth.ms, rel=0.1)
    with pytest.raises(InvalidInputError, match="at least one layer"):
        LayerTable("pi", "runtime 1", {}).sum_of(files[0])


def test_tables_are_kept_by_device_and_runtime(tmp_path: Path) -> None:
    table = table_of(layers_of(exported(tmp_path / "a.onnx", 0, True)))
    assert LayerTable.read(tmp_path, "pi") is None
    table.save(tmp_path)
    assert LayerTable.read(tmp_path, "pi") == table
    assert LayerTable.read(tmp_path, "pi", "runtime 1") == table
    assert LayerTable.read(tmp_path, "pi", "runtime 2") is None
    table_path(tmp_path, "pi").write_text("{")
    assert LayerTable.read(tmp_path, "pi") is None
