"""From a finished network to the file a user ships, and what that file really does."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch import nn

from nas.core import EvaluationError
from workers.datasets import Images
from workers.profiling.runtime import session
from workers.writing import written_whole

OPSET = 17
INPUT, OUTPUT = "images", "logits"
EVAL_BATCH = 512


def export_onnx(network: nn.Module, input_shape: tuple[int, int, int], path: Path) -> None:
    """Write `network` as ONNX with a free batch axis; quantized weights are stored as integers.

    Raises:
        EvaluationError: the network cannot be exported.
    """
    network.eval().cpu()
    with written_whole(path) as temporary:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                torch.onnx.export(
                    network,
                    (torch.zeros(2, *input_shape),),
                    str(temporary),
                    input_names=[INPUT],
                    output_names=[OUTPUT],
                    dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
                    opset_version=OPSET,
                    dynamo=False,
                )
            except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
                raise EvaluationError(f"ONNX export failed: {error}") from error
        model = onnx.load(temporary)
        store_integer_weights(model)
        onnx.checker.check_model(model)
        onnx.save(model, temporary)


def store_integer_weights(model: ModelProto) -> None:
    """Fold QuantizeLinear and Clip of constant weights into integer initializers, in place."""
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    folded = []
    for node in graph.node:
        if not all(name in constants for name in node.input):
            continue
        inputs = [constants[name] for name in node.input]
        if node.op_type == "QuantizeLinear":
            constants[node.output[0]] = _quantized(*inputs)
            folded.append(node)
        elif node.op_type == "Clip" and inputs[0].dtype == np.int8:
            constants[node.output[0]] = np.clip(*inputs)
            folded.append(node)
    for node in folded:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in used]:
        graph.node.remove(node)
    stored = {t.name for t in graph.initializer}
    kept = [t for t in graph.initializer if t.name in used]
    made = [node.output[0] for node in folded if node.output[0] in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(constants[name], name) for name in made if name not in stored
    )


def onnx_logits(path: Path, x: Images) -> NDArray[np.float32]:
    """`(n, classes)` what the file computes for `x (n, C, H, W)`."""
    runner = session(path)
    parts = [x[i : i + EVAL_BATCH] for i in range(0, len(x), EVAL_BATCH)]
    return np.concatenate([runner.run(None, {INPUT: part})[0] for part in parts])


def _quantized(
    x: NDArray[np.float32], scale: NDArray[np.float32], zero: NDArray[np.int8]
) -> NDArray[np.int8]:
    """QuantizeLinear of a constant, output channels first, as ONNX defines it."""
    shape = (-1,) + (1,) * (x.ndim - 1) if scale.ndim else ()
    codes = np.rint(x / scale.reshape(shape)) + zero.reshape(shape)
    limits = np.iinfo(zero.dtype)
    return np.clip(codes, limits.min, limits.max).astype(zero.dtype)
