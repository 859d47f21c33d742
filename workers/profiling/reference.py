"""A small fixed network that is timed beside every artifact, so that machine noise cancels.

Its file is written byte by byte in protobuf's wire format: a device needs no `onnx` for it.
"""

from __future__ import annotations

from functools import cache

import numpy as np

N_LAYERS = 4
WIDTH = 16
SIDE = 16
FLOAT, INTS = 1, 7
"""ONNX's numbers for the type of a tensor and of an attribute."""


@cache
def reference_model() -> bytes:
    """Serialised ONNX: four 3x3 convolutions of 16 channels on a 16x16 map, float32."""
    rng = np.random.default_rng(0)
    nodes, weights, before = [], [], "images"
    for i in range(N_LAYERS):
        weight = rng.normal(0, 0.1, (WIDTH, WIDTH, 3, 3)).astype("<f4")
        dims = b"".join(_field(1, size) for size in weight.shape)
        tensor = dims + _field(2, FLOAT) + _field(8, f"w{i}") + _field(9, weight.tobytes())
        pads = _field(1, "pads") + b"".join(_field(8, 1) for _ in range(4)) + _field(20, INTS)
        weights.append(_field(5, tensor))
        nodes.append(_node("Conv", [before, f"w{i}"], f"c{i}", _field(5, pads)))
        nodes.append(_node("Relu", [f"c{i}"], f"r{i}"))
        before = f"r{i}"
    ends = _field(11, _value("images")) + _field(12, _value(before))
    graph = b"".join(nodes) + _field(2, "reference") + b"".join(weights) + ends
    opset = _field(1, "") + _field(2, 17)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    taken = b"".join(_field(1, name) for name in inputs)
    return _field(1, taken + _field(2, output) + _field(4, kind) + attributes)


def _value(name: str) -> bytes:
    shape = b"".join(_field(1, _field(1, size)) for size in (1, WIDTH, SIDE, SIDE))
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, shape)))


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message: a number, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
