"""A torch graph in the making, whose values are floats, constants, or integer codes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, numpy_helper
from torch import fx, nn
from torch.nn import functional as F

from nas.core import EvaluationError

LOWEST, HIGHEST = -128, 127
Span = tuple[float, float]
MAX_FACTOR = 256.0
"""Below it XNNPACK has products of an input's and a weight's step, over the output's."""
RATIOS = 2.0**-8, 2.0**7
"""Between them it has an input's step over the output's, for whatever has no weights."""
RECTIFIED: Span = (0.0, float("inf"))


@dataclass(frozen=True)
class Codes:
    """A tensor in integers, or about to be.

    Attributes:
        values: constant codes, a node of 8-bit signed codes, or (`pending`) one that is to be
            rounded.
        scale: `()` step, or `(out,)` of them.
        zero: the code of 0, likewise.
        first, last: the outermost codes.
        pending: see `values`.
    """

    values: NDArray[Any] | fx.Node
    scale: NDArray[np.float32]
    zero: NDArray[Any]
    first: int
    last: int
    pending: bool = False

    @property
    def span(self) -> Span:
        """The least and the largest value of a whole tensor."""
        step, zero = float(self.scale), int(self.zero)
        return (self.first - zero) * step, (self.last - zero) * step

    @property
    def signed(self) -> tuple[float, int, int, int, torch.dtype]:
        """Step, zero point, first and last code, and type, once codes are signed 8-bit ones."""
        zero = int(self.zero) + (0 if self.first < 0 else LOWEST)
        return float(self.scale), zero, LOWEST, HIGHEST, torch.int8

    def floats(self) -> NDArray[np.float32]:
        """What constant codes, output channels first, stand for."""
        assert isinstance(self.values, np.ndarray)
        shape = (-1,) + (1,) * (self.values.ndim - 1) if self.scale.ndim else ()
        offset = self.zero.reshape(shape).astype(np.float32)
        found = (self.values.astype(np.float32) - offset) * self.scale.reshape(shape)
        return found.astype(np.float32)


Value = fx.Node | NDArray[Any] | Codes


class Builder:
    """Values by their names in an ONNX graph, and the torch graph that computes them.

    Attributes:
        values: what is there so far; inputs and constants at first.
        shapes: of tensors, by name.
    """

    def __init__(self, onnx_graph: GraphProto) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.outputs = [port.name for port in onnx_graph.output]
        self.values: dict[str, Value] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in onnx_graph.initializer
        }
        for node in onnx_graph.node:
            if node.op_type == "Constant":
                self.values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        for port in onnx_graph.input:
            if port.name not in self.values:
                self.values[port.name] = self.graph.placeholder(port.name)
        ports = (*onnx_graph.value_info, *onnx_graph.output)
        self.shapes = {p.name: [d.dim_value for d in p.type.tensor_type.shape.dim] for p in ports}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in onnx_graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def finished(self) -> fx.GraphModule:
        """A module of all outputs."""
        self.graph.output(tuple(self.tensor(name) for name in self.outputs))
        self.graph.eliminate_dead_code()
        return fx.GraphModule(self.root, self.graph)

    # ---------------------------------------------------------------- reading

    def tensor(self, name: str) -> fx.Node:
        """A value in floats. Codes are dequantized anew for every reader, as backends expect."""
        value = self.values[name]
        if isinstance(value, fx.Node):
            return value
        if isinstance(value, np.ndarray):
            return self.constant(value)
        if isinstance(value.values, np.ndarray):
            return self.constant(value.floats())
        return self.call("dequantize_per_tensor", value.values, *value.signed)

    def operand(self, name: str, node: NodeProto) -> fx.Node:
        """A value in floats for `node`, which is kept from integer kernels that do not exist.

        Where nothing ever varied the step is nearly 0, and no factor leads from it to others.
        """
        value, after = self.values[name], self._step_after(node.output[0])
        if not isinstance(value, Codes) or value.scale.ndim or after is None:
            return self.tensor(name)
        is_near = RATIOS[0] <= float(value.scale) / after < RATIOS[1]
        return self.tensor(name) if is_near else self.apart(name)

    def apart(self, name: str) -> fx.Node:
        """A value in floats whose reader computes in floats: no dequantizer is right before it."""
        value = self.values[name]
        if not isinstance(value, Codes) or isinstance(value.values, np.ndarray):
            return self.tensor(name)
        return self.graph.call_function(F.hardtanh, (self.tensor(name), *value.span))

    def array(self, node: NodeProto, index: int) -> NDArray[Any] | None:
        """A constant input of `node`; None where it is left out.

        Raises:
            EvaluationError: it is computed.
        """
        if index >= len(node.input) or not node.input[index]:
            return None
        value = self.values[node.input[index]]
        if not isinstance(value, np.ndarray):
            raise EvaluationError(f"input {index} of {node.op_type} {node.name} is not constant")
        return value

    def weight(self, node: NodeProto) -> fx.Node:
        """The weights of `node`, in integers where both ends of it are."""
        weight, image = self.values[node.input[1]], self.values[node.input[0]]
        if not isinstance(weight, Codes) or not isinstance(weight.values, np.ndarray):
            return self.tensor(node.input[1])
        after = self._step_after(node.output[0])
        if not isinstance(image, Codes) or after is None or weight.zero.any():
            return self.tensor(node.input[1])
        if float(image.scale * weight.scale.max()) / after >= MAX_FACTOR:
            return self.tensor(node.input[1])
        codes, span = self.constant(weight.values), (-HIGHEST, HIGHEST, torch.int8)
        if weight.scale.ndim == 0:
            return self.call("dequantize_per_tensor", codes, float(weight.scale), 0, *span)
        steps = self.constant(weight.scale)
        zeros = self.constant(np.zeros(len(weight.scale), np.int64))
        return self.call("dequantize_per_channel", codes, steps, zeros, 0, *span)

    # ---------------------------------------------------------------- writing

    def constant(self, values: NDArray[Any]) -> fx.Node:
        """A constant of the module."""
        name = f"constant{len(list(self.root.buffers()))}"
        self.root.register_buffer(name, torch.from_numpy(np.array(values)))
        return self.graph.get_attr(name)

    def call(self, name: str, *parts: Any) -> fx.Node:
        """One of quantization's operators."""
        found = getattr(torch.ops.quantized_decomposed, name).default
        return self.graph.call_function(found, parts)

    def rounded(self, codes: Codes) -> Codes:
        """Codes that were pending, in 8 bits; fewer bits are a clamp before.

        A convolution clamps as it writes. What others give is rounded twice instead, which changes
        nothing and leaves them in integers.
        """
        source = codes.values
        assert isinstance(source, fx.Node)
        if codes.last - codes.first < HIGHEST - LOWEST:
            source, (low, high) = self._without_rectifier(source, codes.span)
            if source.target not in (F.conv2d, F.linear):
                wide = self.call("quantize_per_tensor", source, *codes.signed)
                source = self.call("dequantize_per_tensor", wide, *codes.signed)
            source = self.graph.call_function(F.hardtanh, (source, low, high))
        made = self.call("quantize_per_tensor", source, *codes.signed)
        return replace(codes, values=made, pending=False)

    def _without_rectifier(self, source: fx.Node, span: Span) -> tuple[fx.Node, Span]:
        """What a rectifier reads that nothing else needs, and `span` within the rectifier's."""
        own = RECTIFIED if source.target is torch.relu else source.args[1:]
        if source.target not in (torch.relu, F.hardtanh) or source.users:
            return source, span
        read = source.args[0]
        assert isinstance(read, fx.Node)
        self.graph.erase_node(source)
        floor, ceiling = (cast(float, bound) for bound in own)
        return read, (max(span[0], floor), min(span[1], ceiling))

    def _step_after(self, name: str) -> float | None:
        """The step to which a result is rounded, behind a rectifier or not; None if it is not."""
        readers = self.readers.get(name, [])
        if len(readers) != 1 or name in self.outputs:
            return None
        if readers[0].op_type in ("Relu", "Clip"):
            return self._step_after(readers[0].output[0])
        step = self.array(readers[0], 1) if readers[0].op_type == "QuantizeLinear" else None
        return None if step is None else float(step)
