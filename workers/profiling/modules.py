"""What the modules of an exported network take on this machine, by the runtime's own profile."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from workers.profiling.layers import ACTIVATIONS, WEIGHTED, add_empty
from workers.profiling.runtime import layer_ms

BETWEEN = ""
"""Holds what the runtime puts between modules, such as changes of layout."""
FUSED = (*ACTIVATIONS, "Add", "HardSigmoid", "Sigmoid")
"""What a runtime computes within the convolution before it, and then names all after."""


def module_ms(path: Path, n_runs: int) -> dict[str, float]:
    """Undisturbed milliseconds by module in whose forward an operator stands, as its name tells.

    Good for shares: under the profiler a file takes longer, though its own time is taken off.

    Raises:
        EvaluationError: the runtime cannot load or run the file.
    """
    model = onnx.load(path)
    modules = _rename(model.graph)
    add_empty(model.graph)
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / path.name
        onnx.save(model, named)
        times = layer_ms(named, n_runs)
    found: dict[str, float] = {}
    for place, ms in times.items():
        module = modules.get(place, BETWEEN)
        found[module] = found.get(module, 0.0) + ms
    return found


def _rename(graph: GraphProto) -> dict[str, str]:
    """Name nodes and what they make `M0.…` by module; gives the module of each such name.

    Runtimes name what they fuse after one or the other.
    """
    places: dict[str, str] = {}
    names: dict[str, str] = {}
    ends = {value.name for value in graph.output}
    for i, (node, module) in enumerate(_owned(graph)):
        node.name = f"{places.setdefault(module, f'M{len(places)}')}.{i}"
        inner = {made: f"{node.name}.{j}" for j, made in enumerate(node.output)}
        names |= {made: name for made, name in inner.items() if made not in ends}
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.value_info[:]
    return {place: module for module, place in places.items()}


def _owned(graph: GraphProto) -> list[tuple[NodeProto, str]]:
    """Every node with its module; what is fused into a layer with weights has that layer's."""
    readers = Counter(name for node in graph.node for name in node.input)
    layers: dict[str, str] = {}
    found = []
    for node in graph.node:
        module = ".".join(node.name.split("/")[1:-1])
        before = [layers[n] for n in node.input if n in layers and readers[n] == 1]
        fused = node.op_type in FUSED and bool(before)
        module = before[-1] if fused else module
        if fused or node.op_type in WEIGHTED:
            layers |= dict.fromkeys(node.output, module)
        found.append((node, module))
    return found
