"""Programs for phones: the graph is tested everywhere, programs where ExecuTorch is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference

import searchspaces
from nas.core import Candidate, EvaluationError
from searchspaces import ModelFamily
from workers.comparison import built
from workers.datasets import Dataset, load_dataset
from workers.deployment import export_onnx, onnx_logits
from workers.executorch.graph import image_shape, torch_graph
from workers.executorch.lowering import convert, lower
from workers.profiling import runtime
from workers.quantizing import quantize_and_finetune
from workers.runtimes import profiler
from workers.training import TrainingSettings, train

SMALL = {"n_stages": 2, "depths": [1], "squeeze_excitation": [True]}
BITS = [(8, 8), (4, 8), (4, 4), (8, 32), (32, 32)]


@pytest.fixture
def executorch() -> None:
    """Skips where it is not installed, saying so."""
    try:
        profiler("executorch")
    except EvaluationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


def of_bits(
    name: str, weight: int, activation: int, **options: Any
) -> tuple[ModelFamily, Candidate]:
    """A family that has these bits alone, and a candidate of it."""
    bits = {"weight_bits": [weight], "activation_bits": [activation]}
    family = searchspaces.family(name, (1, 8, 8), 10, {**bits, **options})
    return family, family.space.candidate(family.space.sample(1, np.random.default_rng(1))[0])


def exported(family: ModelFamily, candidate: Candidate, path: Path) -> Path:
    torch.manual_seed(0)
    export_onnx(built(family, candidate, True, True), family.input_shape, path)
    return path


def computed(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    graph = torch_graph(model)
    with torch.no_grad():
        return np.concatenate([graph(torch.from_numpy(image[None]))[0].numpy() for image in x])


def model_of(
    *nodes: NodeProto, constants: dict[str, NDArray[Any]], n_inputs: int = 1
) -> ModelProto:
    """A file that computes `out` from images `in0 (B, 2, 4, 4)`."""
    inputs = [
        helper.make_tensor_value_info(f"in{i}", TensorProto.FLOAT, ["batch", 2, 4, 4])
        for i in range(n_inputs)
    ]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(list(nodes), "test", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return shape_inference.infer_shapes(model)


# ---------------------------------------------------------------- the graph


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", ["mobilenet", "cells"])
def test_the_graph_computes_what_the_file_does(
    name: str, bits: tuple[int, int], digits: Dataset, tmp_path: Path
) -> None:
    path = exported(*of_bits(name, *bits), tmp_path / "model.onnx")
    x = digits.x_test[:20]
    expected = onnx_logits(path, x)
    off = np.abs(computed(onnx.load(path), x) - expected)
    assert np.median(off) < 0.02 * np.abs(expected).max()  # integer kernels round biases, too
    if bits[1] == 32:
        np.testing.assert_allclose(off, 0.0, atol=1e-5)


def test_integer_weights_and_their_scales_are_those_of_the_file(tmp_path: Path) -> None:
    plain = {**SMALL, "squeeze_excitation": [False]}
    path = exported(*of_bits("mobilenet", 8, 8, **plain), tmp_path / "model.onnx")
    stored = [numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    expected = {array.tobytes() for array in stored if array.dtype == np.int8 and array.ndim == 4}
    graph = torch_graph(onnx.load(path))
    kept = {b.numpy().tobytes() for b in graph.buffers() if b.dtype == torch.int8}
    assert expected and expected <= kept


def test_float_activations_leave_no_integers(tmp_path: Path) -> None:
    path = exported(*of_bits("mobilenet", 8, 32, **SMALL), tmp_path / "model.onnx")
    graph = torch_graph(onnx.load(path))
    assert all(b.dtype != torch.int8 for b in graph.buffers())
    assert not [n for n in graph.graph.nodes if "quantize" in str(n.target)]


@pytest.mark.parametrize(("zero", "last"), [(3, 15), (3, 255), (128, 255)])
@pytest.mark.parametrize("weight_zero", [0, 5])
def test_unsigned_codes_and_offset_weights_keep_their_values(
    zero: int, last: int, weight_zero: int
) -> None:
    rng = np.random.default_rng(0)
    constants: dict[str, NDArray[Any]] = {
        "step": np.float32(0.1),
        "zero": np.uint8(zero),
        "low": np.uint8(0),
        "high": np.uint8(last),
        "codes": rng.integers(-64, 64, (3, 2, 3, 3)).astype(np.int8),
        "weight_step": np.float32(0.02),
        "weight_zero": np.int8(weight_zero),
    }
    rounding = [
        ("QuantizeLinear", ["step", "zero"]),
        ("Clip", ["low", "high"]),
        ("DequantizeLinear", ["step", "zero"]),
    ]
    nodes, name = [], "in0"
    for i, (kind, others) in enumerate([*rounding, ("Conv", ["weight"]), ("Relu", []), *rounding]):
        nodes.append(helper.make_node(kind, [name, *others], [name := f"v{i}"]))
    nodes[3].attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
    nodes[-1].output[0] = "out"
    widened = ["codes", "weight_step", "weight_zero"]
    nodes.insert(0, helper.make_node("DequantizeLinear", widened, ["weight"]))
    model = model_of(*nodes, constants=constants)
    x = rng.normal(0, 2, (5, 2, 4, 4)).astype(np.float32)
    expected = runtime.session(model.SerializeToString()).run(None, {"in0": x})[0]
    off = np.abs(computed(model, x) - expected)
    assert np.ptp(expected) > 0.5
    assert off.max() < 0.1001 and (off < 1e-5).mean() > 0.98  # a step where a tie was rounded


def test_what_is_not_converted_is_named() -> None:
    weight = {"weight": np.ones((2, 2, 2, 2), np.float32)}
    lopsided = helper.make_node("Conv", ["in0", "weight"], ["out"], "first", pads=[0, 0, 1, 1])
    with pytest.raises(EvaluationError, match="Conv first: padding must be the same"):
        torch_graph(model_of(lopsided, constants=weight))
    with pytest.raises(EvaluationError, match="operator Erf is not converted, only Add, Aver"):
        torch_graph(model_of(helper.make_node("Erf", ["in0"], ["out"]), constants={}))
    summed = model_of(helper.make_node("Add", ["in0", "in1"], ["out"]), constants={}, n_inputs=2)
    with pytest.raises(EvaluationError, match="models of one input are converted, not of 2"):
        image_shape(summed)


# ---------------------------------------------------------------- without ExecuTorch


def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = exported(*of_bits("mobilenet", 8, 8, **SMALL), tmp_path / "model.onnx")
    for module in [m for m in sys.modules if m.partition(".")[0] == "executorch"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "executorch", None)
    monkeypatch.delitem(sys.modules, "workers.executorch.program", raising=False)
    monkeypatch.delitem(sys.modules, "workers.profiling.executorch", raising=False)
    with pytest.raises(EvaluationError, match=r"pip install 'nas\[executorch\]'"):
        lower(path)
    with pytest.raises(EvaluationError, match=r"not installed here.*'nas\[executorch\]'"):
        profiler("executorch")


def test_a_broken_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"ExecuTorch cannot load broken\.onnx"):
        convert(path, tmp_path / "broken.pte")
    assert not (tmp_path / "broken.pte").exists()


# ---------------------------------------------------------------- programs


def with_a_dead_branch(rng: np.random.Generator) -> ModelProto:
    """Rounded pools, and a convolution that gives 0 alone, whose step is nearly 0; then both."""
    steps = {"in0": 0.1, "pooled": 0.05, "dead": 1e-9, "sum": 0.05}
    constants: dict[str, NDArray[Any]] = {f"{k}.step": np.float32(v) for k, v in steps.items()}
    constants |= {"zero": np.uint8(128), "weight_step": np.float32(0.02), "none": np.int8(0)}
    constants["codes"] = rng.integers(-64, 64, (2, 2, 1, 1)).astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["codes", "weight_step", "none"], ["weight"])]

    def rounded(name: str) -> str:
        ends = [f"{name}.step", "zero"]
        nodes.append(helper.make_node("QuantizeLinear", [name, *ends], [f"{name}.codes"]))
        out = "out" if name == "sum" else f"{name}.floats"
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.codes", *ends], [out]))
        return out

    image = rounded("in0")
    window = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes.append(helper.make_node("MaxPool", [image], ["pooled"], **window))
    pooled = rounded("pooled")
    nodes.append(helper.make_node("Conv", [pooled, "weight"], ["dead"]))
    nodes.append(helper.make_node("Add", [pooled, rounded("dead")], ["sum"]))
    rounded("sum")
    return model_of(*nodes, constants=constants)


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
def test_steps_that_integer_kernels_do_not_have_become_floats(tmp_path: Path) -> None:
    from workers.executorch.program import execution, program_logits

    rng = np.random.default_rng(0)
    path, made = tmp_path / "model.onnx", tmp_path / "model.pte"
    onnx.save(with_a_dead_branch(rng), path)
    convert(path, made)
    x = rng.normal(0, 2, (5, 2, 4, 4)).astype(np.float32)
    expected = runtime.session(path).run(None, {"in0": x})[0]
    assert np.ptp(expected) > 0.5
    np.testing.assert_allclose(program_logits(made, x), expected, atol=1e-5)
    ran = execution(made)
    assert ran["weighted"] == {"float32": 1} and ran["providers"].keys() == {"xnnpack"}


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
@pytest.mark.parametrize(("bits", "precision"), [((8, 8), "int8"), ((32, 32), "float32")])
def test_a_program_agrees_with_the_file_on_real_images(
    bits: tuple[int, int], precision: str, digits: Dataset, tmp_path: Path
) -> None:
    from workers.executorch.program import execution, program_logits

    family, candidate = of_bits("mobilenet", *bits, **SMALL)
    torch.manual_seed(0)
    network = family.build(candidate)
    train(network, digits.x_train, digits.y_train, TrainingSettings(2), seed=1)
    family.prune(network, candidate)
    quantize_and_finetune(network, family, candidate, digits, 1, 2)
    path, made = tmp_path / "model.onnx", tmp_path / "model.pte"
    export_onnx(network, digits.input_shape, path)
    convert(path, made)
    expected, found = onnx_logits(path, digits.x_test), program_logits(made, digits.x_test)
    assert (expected.argmax(1) == digits.y_test).mean() > 0.5
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.99
    assert np.abs(expected - found).max() <= 0.05 * np.abs(expected).max()
    ran = execution(made)
    assert ran["weighted"] == runtime.execution(path).weighted
    assert max(ran["weighted"], key=ran["weighted"].__getitem__) == precision
    assert set(ran["providers"]) == {"xnnpack"}
    assert sum(ran["shares"].values()) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("executorch")
def test_what_xnnpack_leaves_to_plain_loops_is_told(tmp_path: Path) -> None:
    from workers.executorch.program import execution

    pool = helper.make_node(
        "AveragePool", ["in0"], ["out"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    )
    path, made = tmp_path / "model.onnx", tmp_path / "model.pte"
    onnx.save(model_of(pool, constants={}), path)
    convert(path, made)
    ran = execution(made)
    assert ran["providers"]["portable"] >= 1 and ran["shares"]["portable"] > 0.0
    assert ran["weighted"] == {}
