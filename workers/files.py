"""What can be told of an exported file without running it."""

from __future__ import annotations

from pathlib import Path

import onnx

FILE_BYTES, NODES = "bytes@file", "nodes@file"
"""Features that what loading a file takes is nearly linear in, whatever the device."""


def file_features(path: Path) -> dict[str, float]:
    """Bytes and number of operators of an ONNX file."""
    n_nodes = len(onnx.load(path, load_external_data=False).graph.node)
    return {FILE_BYTES: float(path.stat().st_size), NODES: float(n_nodes)}
