"""An ONNX file as a torch graph with the same integer weights, scales and zero points.

Quantizers become the operators that PyTorch's backends recognise (`quantized_decomposed`). Their
codes are signed 8-bit ones, as XNNPACK has no others: unsigned codes and zero points move by 128,
and fewer bits are a clamp, which commutes with rounding. Weights stay integers where both ends of
their layer are; elsewhere the values they stand for are stored.

Reference: ONNX operators, opset 17; PyTorch's "Quantized decomposed" operators.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, helper, shape_inference
from torch import fx
from torch.nn import functional as F

from nas.core import EvaluationError
from workers.executorch.builder import Builder, Codes, Value

Attributes = Mapping[str, Any]
SPATIAL = (2, 3)


def torch_graph(model: ModelProto) -> fx.GraphModule:
    """What `model` computes for one image.

    Raises:
        EvaluationError: an operator, or a use of one, that is not converted.
    """
    single = _of_one_image(model)
    builder = Builder(single.graph)
    for node in _needed(single.graph):
        if node.output[0] in builder.values:
            continue
        if node.op_type not in OPERATORS:
            known = ", ".join(sorted(OPERATORS))
            raise EvaluationError(f"operator {node.op_type} is not converted, only {known}")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        builder.values[node.output[0]] = OPERATORS[node.op_type](builder, node, attributes)
    return builder.finished()


def image_shape(model: ModelProto) -> tuple[int, ...]:
    """`(1, C, H, W)` of the only input.

    Raises:
        EvaluationError: there are several.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in stored]
    if len(ports) != 1:
        raise EvaluationError(f"only models of one input are converted, not of {len(ports)}")
    return tuple(dim.dim_value or 1 for dim in ports[0].type.tensor_type.shape.dim)


def _of_one_image(model: ModelProto) -> ModelProto:
    """`model` with a batch of 1, and the shapes of all tensors."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph = single.graph
    for dim in (d for port in graph.input for d in port.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value"):
            dim.dim_value = 1
    del graph.value_info[:]
    for port in graph.output:
        port.type.tensor_type.ClearField("shape")
    return shape_inference.infer_shapes(single, data_prop=True)


def _needed(graph: GraphProto) -> list[NodeProto]:
    """What the outputs depend on; what computes shapes is not needed, as they are known."""
    wanted, found = {port.name for port in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            found.append(node)
            wanted |= set(node.input[:1] if node.op_type == "Reshape" else node.input)
    return found[::-1]


# ---------------------------------------------------------------- operators


def _plain(function: Callable[..., Any]) -> Callable[[Builder, NodeProto, Attributes], Value]:
    def call(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
        return b.graph.call_function(function, tuple(b.operand(name, node) for name in node.input))

    return call


def _same(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    return b.values[node.input[0]]


def _quantize(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    scale, zero = b.array(node, 1), b.array(node, 2)
    if scale is None or zero is None or scale.ndim:
        raise EvaluationError(f"{node.name}: activations need one step and one zero point")
    limits = np.iinfo(zero.dtype)
    return Codes(b.tensor(node.input[0]), scale, zero, limits.min, limits.max, pending=True)


def _dequantize(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    value, scale, zero = b.values[node.input[0]], b.array(node, 1), b.array(node, 2)
    if isinstance(value, Codes):
        if value.pending:
            b.values[node.input[0]] = value = b.rounded(value)
        return value
    if not isinstance(value, np.ndarray) or scale is None or zero is None:
        raise EvaluationError(f"{node.name}: codes that no QuantizeLinear made")
    limits = np.iinfo(zero.dtype)
    return Codes(value, scale, zero, limits.min, limits.max)


def _clip(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    value, low, high = b.values[node.input[0]], b.array(node, 1), b.array(node, 2)
    if isinstance(value, Codes) and value.pending:
        first = value.first if low is None else max(value.first, int(low))
        last = value.last if high is None else min(value.last, int(high))
        return Codes(value.values, value.scale, value.zero, first, last, pending=True)
    bounds = [None if bound is None else float(bound) for bound in (low, high)]
    function = torch.clamp if None in bounds else F.hardtanh
    return b.graph.call_function(function, (b.operand(node.input[0], node), *bounds))


def _conv(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    image, weight = b.tensor(node.input[0]), b.weight(node)
    bias = b.tensor(node.input[2]) if len(node.input) > 2 else None
    stride, dilation = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    parts = (image, weight, bias, stride, _padding(node, attributes), dilation)
    return b.graph.call_function(F.conv2d, (*parts, attributes.get("group", 1)))


def _gemm(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
    if {**usual, "transB": 0, **attributes} != usual:
        raise EvaluationError(f"Gemm {node.name} is not converted with {dict(attributes)}")
    bias = b.tensor(node.input[2]) if len(node.input) > 2 else None
    return b.graph.call_function(F.linear, (b.tensor(node.input[0]), b.weight(node), bias))


def _max_pool(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """The largest of codes is one of them, so integers stay on their grid."""
    kernel, stride, dilation = _window(attributes)
    parts = (b.tensor(node.input[0]), kernel, stride, _padding(node, attributes), dilation)
    found = b.graph.call_function(F.max_pool2d, (*parts, bool(attributes.get("ceil_mode"))))
    value = b.values[node.input[0]]
    if not isinstance(value, Codes):
        return found
    return replace(value, values=b.call("quantize_per_tensor", found, *value.signed))


def _average_pool(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    kernel, stride, _ = _window(attributes)
    modes = bool(attributes.get("ceil_mode")), bool(attributes.get("count_include_pad"))
    parts = (kernel, stride, _padding(node, attributes), *modes)
    return b.graph.call_function(F.avg_pool2d, (b.tensor(node.input[0]), *parts))


def _mean(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """Over axes that are kept, as XNNPACK has it; they are dropped afterwards."""
    axes = tuple(attributes.get("axes", SPATIAL))
    found = b.graph.call_function(torch.mean, (b.operand(node.input[0], node), axes, True))
    if attributes.get("keepdims", 1):
        return found
    return b.graph.call_function(torch.reshape, (found, b.shapes[node.output[0]]))


def _hard_sigmoid(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    slope, offset = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    line = b.graph.call_function(operator.mul, (b.tensor(node.input[0]), slope))
    line = b.graph.call_function(operator.add, (line, offset))
    return b.graph.call_function(F.hardtanh, (line, 0.0, 1.0))


def _reshape(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    shape = b.shapes.get(node.output[0], [])
    if 0 in shape or not shape:
        raise EvaluationError(f"{node.op_type} {node.name}: its shape is not known beforehand")
    return b.graph.call_function(torch.reshape, (b.tensor(node.input[0]), shape))


def _concat(b: Builder, node: NodeProto, attributes: Attributes) -> Value:
    """In floats: integers would need the same step everywhere."""
    parts = [b.apart(name) for name in node.input]
    return b.graph.call_function(torch.cat, (parts, attributes["axis"]))


def _padding(node: NodeProto, attributes: Attributes) -> list[int]:
    """`[vertical, horizontal]`, the same on both sides."""
    pads, kind = list(attributes.get("pads", (0, 0, 0, 0))), attributes.get("auto_pad", b"NOTSET")
    if kind in (b"SAME_UPPER", b"SAME_LOWER"):
        kernel, stride, dilation = _window(attributes)
        wide = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = [w // 2 if s == 1 else -1 for w, s in zip(wide, stride, strict=True)]
        pads = [*before, *(w - b for w, b in zip(wide, before, strict=True))]
    if pads[:2] != pads[2:]:
        raise EvaluationError(f"{node.op_type} {node.name}: padding must be the same on both sides")
    return pads[:2]


def _window(attributes: Attributes) -> tuple[list[int], list[int], list[int]]:
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return list(attributes["kernel_shape"]), list(strides), list(dilations)


OPERATORS: Mapping[str, Callable[[Builder, NodeProto, Attributes], Value]] = {
    "Add": _plain(operator.add),
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": _plain(operator.truediv),
    "Flatten": _reshape,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "Identity": _same,
    "MaxPool": _max_pool,
    "Mul": _plain(operator.mul),
    "QuantizeLinear": _quantize,
    "ReduceMean": _mean,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Sigmoid": _plain(torch.sigmoid),
    "Squeeze": _reshape,
    "Sub": _plain(operator.sub),
    "Tanh": _plain(torch.tanh),
}
