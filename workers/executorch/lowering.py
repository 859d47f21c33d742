"""ONNX files turned into `.pte` files for XNNPACK, in a process of its own.

    python -m workers.executorch.lowering model.onnx model.pte

PyTorch's exporter leaves a process larger than it found it, so memory and time are measured in one
that never saw it.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import onnx

from nas.core import EvaluationError, NasError
from workers.isolation import child_answer
from workers.machine import die_with_parent

MAX_SECONDS = 600.0
EXTRA = "pip install 'nas[executorch]'"


def convert(model: Path, path: Path) -> None:
    """Write the ONNX file `model` as the ExecuTorch program `path`, for one image at a time.

    Raises:
        EvaluationError: ExecuTorch is not installed, or the file cannot be converted.
    """
    command = [sys.executable, "-m", "workers.executorch.lowering", str(model), str(path)]
    child_answer(command, None, MAX_SECONDS, lambda: True)


def lower(model: Path) -> bytes:
    """The program, whatever XNNPACK takes of it delegated to XNNPACK.

    Raises:
        EvaluationError: as `convert`.
    """
    try:
        network = onnx.load(model)
        onnx.checker.check_model(network)
    except Exception as error:  # protobuf's errors share no other base
        raise EvaluationError(f"ExecuTorch cannot load {model.name}: {error}") from error
    try:
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from workers.executorch.graph import image_shape, torch_graph
    except ImportError as error:
        raise EvaluationError(f"executorch is not installed here ({error}): {EXTRA}") from error
    graph, example = torch_graph(network), torch.zeros(image_shape(network))
    try:
        exported = torch.export.export(graph, (example,))
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)
    except Exception as error:  # the exporter's errors share no other base
        raise EvaluationError(f"ExecuTorch cannot export {model.name}: {error}") from error


def main() -> None:
    """Convert one file; answers with its size, or `{"error": sentence}`."""
    die_with_parent()
    warnings.simplefilter("ignore")  # of deprecations within the exporter
    try:
        program = lower(Path(sys.argv[1]))
        Path(sys.argv[2]).write_bytes(program)
        answer: dict[str, object] = {"file_bytes": len(program)}
    except (NasError, OSError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
