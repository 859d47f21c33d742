"""A small fixed network that is timed beside every artifact, so that machine noise cancels."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

N_LAYERS = 4
WIDTH = 16
SIDE = 16


def reference_model() -> bytes:
    """Serialised ONNX: four 3x3 convolutions of 16 channels on a 16x16 map, float32."""
    rng = np.random.default_rng(0)
    nodes, weights, before = [], [], "images"
    for i in range(N_LAYERS):
        weight = rng.normal(0, 0.1, (WIDTH, WIDTH, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("Conv", [before, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        before = f"r{i}"
    shape = [1, WIDTH, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "reference",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(before, TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    payload: bytes = model.SerializeToString()
    return payload
