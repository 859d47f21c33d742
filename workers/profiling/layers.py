"""The layers of an ONNX file as a runtime would fuse them, and files of many layers to be timed.

A layer is one operator with what belongs to it: the dequantizers of its inputs, the activation
after it, the quantizer of its output. Two layers are alike when operators, attributes, shapes and
types are; the values of weights are not looked at. Needs `onnx`; devices do not.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import (
    AttributeProto,
    GraphProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
    shape_inference,
)

from workers.profiling.layer_times import EMPTY

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
ACTIVATIONS = ("Clip", "Relu")
IR_VERSION = 8
WEIGHTED = ("Conv", "Gemm", "MatMul")
INTEGERS = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class Layer:
    """One layer, ready to be put into another file.

    Attributes:
        nodes: in order.
        constants: what they read and nobody computes, by name.
        inputs: what others compute, with shapes.
        output: of the last node, with its shape.
    """

    nodes: tuple[NodeProto, ...]
    constants: Mapping[str, TensorProto]
    inputs: tuple[ValueInfoProto, ...]
    output: ValueInfoProto

    @cached_property
    def key(self) -> str:
        """The same for layers that are alike, and readable."""
        found = hashlib.sha256("\n".join(self._lines()).encode()).hexdigest()[:12]
        return f"{self.kind} {_shape_text(self.inputs)}>{_shape_text([self.output])} {found}"

    @cached_property
    def kind(self) -> str:
        """Operator and precision: what may be interpolated together.

        `int8`, `float32`, or `int8 weights` where a float operator has to widen them.
        """
        grouped = any(a.name == "group" and a.i > 1 for a in self._main.attribute)
        ends = (*self.inputs, self.output)
        integer = all(value.type.tensor_type.elem_type in INTEGERS for value in ends)
        widened = any(t.data_type in INTEGERS and len(t.dims) > 1 for t in self.constants.values())
        name = "grouped " * grouped + self._main.op_type
        return f"{name} {'int8' if integer else 'int8 weights' if widened else 'float32'}"

    @cached_property
    def work(self) -> tuple[float, float, float]:
        """Multiply-accumulates (or outputs, without weights), values moved, and weights read."""
        outputs, read = float(np.prod(_shape(self.output))), sum(map(_size, self.inputs))
        weights = [t for t in self.constants.values() if len(t.dims) > 1]
        n_weights = float(sum(np.prod(t.dims) for t in weights))
        if self._main.op_type not in WEIGHTED or not weights:
            return outputs, outputs + read, 0.0
        n_out = weights[0].dims[0] if self._main.op_type == "Conv" else _shape(self.output)[-1]
        return n_weights * outputs / n_out, outputs + read, n_weights

    @property
    def _main(self) -> NodeProto:
        others = (QUANTIZE, DEQUANTIZE, *ACTIVATIONS)
        return next((n for n in self.nodes if n.op_type not in others), self.nodes[-1])

    def _lines(self) -> Iterator[str]:
        types = {v.name: _text(v) for v in (*self.inputs, self.output)}
        types |= {k: f"constant {t.data_type} {list(t.dims)}" for k, t in self.constants.items()}
        made = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        for node in self.nodes:
            attributes = sorted(_attribute(a) for a in node.attribute)
            read = [types.get(name, f"node {made.get(name)}") for name in node.input]
            yield f"{node.op_type} {attributes} {read}"
        yield types[self.output.name]


def layers_of(path: Path) -> list[Layer]:
    """The layers of an ONNX file, with batch 1, in the order they are computed."""
    return _Graph(onnx.load(path)).layers()


def counted(layers: Sequence[Layer]) -> Counter[str]:
    """How often each key occurs."""
    return Counter(layer.key for layer in layers)


def write_layers(layers: Sequence[Layer], path: Path) -> None:
    """Write one file of all `layers` side by side; the nodes of number i are called `Li.…`.

    Beside them is the layer that does nothing.
    """
    nodes: list[NodeProto] = []
    constants, inputs, outputs = [], [], []
    for i, layer in enumerate(layers):
        for j, node in enumerate(layer.nodes):
            moved = NodeProto()
            moved.CopyFrom(node)
            moved.name = f"L{i}.{j}"
            moved.input[:] = [_moved(i, name) for name in node.input]
            moved.output[:] = [_moved(i, name) for name in node.output]
            nodes.append(moved)
        for name, tensor in layer.constants.items():
            kept = TensorProto()
            kept.CopyFrom(tensor)
            kept.name = _moved(i, name)
            constants.append(kept)
        inputs += [_named(v, _moved(i, v.name)) for v in layer.inputs]
        outputs.append(_named(layer.output, _moved(i, layer.output.name)))
    graph = helper.make_graph(nodes, "layers", inputs, outputs, constants)
    add_empty(graph)
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION), path)


def add_empty(graph: GraphProto) -> None:
    """Put the layer that does nothing into a graph: what a profile tells of it is its own time."""
    read, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("nothing", "same")
    )
    graph.node.append(helper.make_node("Relu", ["nothing"], ["same"], f"{EMPTY}.0"))
    graph.input.append(read)
    graph.output.append(made)


class _Graph:
    """Who makes and who reads each tensor of a file."""

    def __init__(self, model: onnx.ModelProto) -> None:
        for value in model.graph.input:
            for dim in value.type.tensor_type.shape.dim:
                if not dim.HasField("dim_value"):
                    dim.dim_value = 1
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
        self.constants = _constants(graph)
        given = (*graph.input, *graph.value_info, *graph.output)
        self.values = {value.name: value for value in given}
        self.nodes = [n for n in graph.node if n.output[0] not in self.constants]
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.ends = {value.name for value in graph.output}

    def layers(self) -> list[Layer]:
        """Every node belongs to one layer, dequantizers to each that reads them."""
        found: list[Layer] = []
        taken: set[str] = set()
        for node in self.nodes:
            if node.output[0] in taken or self._is_only_read_by_others(node):
                continue
            nodes = [*self._dequantizers(node), node, *self._after(node)]
            taken |= {n.output[0] for n in nodes}
            found.append(self._layer(nodes))
        return found

    def _is_only_read_by_others(self, node: NodeProto) -> bool:
        is_last = node.output[0] in self.ends
        return node.op_type in (DEQUANTIZE, "Identity") and not is_last

    def _dequantizers(self, node: NodeProto) -> list[NodeProto]:
        makers = [self.maker.get(name) for name in dict.fromkeys(node.input)]
        return [m for m in makers if m is not None and m.op_type == DEQUANTIZE]

    def _after(self, node: NodeProto) -> list[NodeProto]:
        """The activations and the quantizer that alone read what `node` makes."""
        found: list[NodeProto] = []
        last = node
        while (reader := self._only_reader(last)) is not None:
            if reader.op_type in ACTIVATIONS and node.op_type in (*WEIGHTED, "Add"):
                found.append(reader)
                last = reader
            elif reader.op_type == QUANTIZE and node.op_type != DEQUANTIZE:
                return [*found, reader]
            else:
                break
        return found

    def _only_reader(self, node: NodeProto) -> NodeProto | None:
        name = node.output[0]
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.ends else None

    def _layer(self, nodes: list[NodeProto]) -> Layer:
        made = {name for node in nodes for name in node.output}
        read = list(dict.fromkeys(name for node in nodes for name in node.input if name))
        constants = {name: self.constants[name] for name in read if name in self.constants}
        inputs = [self.values[n] for n in read if n not in made and n not in constants]
        return Layer(tuple(nodes), constants, tuple(inputs), self.values[nodes[-1].output[0]])


def _constants(graph: GraphProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _moved(i: int, name: str) -> str:
    return f"L{i}.{name}" if name else ""


def _named(value: ValueInfoProto, name: str) -> ValueInfoProto:
    tensor = value.type.tensor_type
    return helper.make_tensor_value_info(name, tensor.elem_type, _shape(value))


def _shape(value: ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _size(value: ValueInfoProto) -> float:
    return float(np.prod(_shape(value)))


def _shape_text(values: Sequence[ValueInfoProto]) -> str:
    return "+".join("x".join(map(str, _shape(value))) for value in values)


def _text(value: ValueInfoProto) -> str:
    return f"{value.type.tensor_type.elem_type} {_shape(value)}"


def _attribute(attribute: AttributeProto) -> str:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        array: NDArray[np.generic] = numpy_helper.to_array(value)
        value = array.tolist()
    return f"{attribute.name}={value}"
