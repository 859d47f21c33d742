"""What a device tells about itself."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from workers.machine import processor_name, usable_cpus

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "ai-edge-litert", "executorch")
MEMORY = Path("/proc/meminfo")


def device_facts() -> dict[str, Any]:
    """Processor, cores, memory, system, and versions of installed runtimes; JSON."""
    return {
        "processor": processor_name(),
        "machine": platform.machine(),
        "system": platform.platform(terse=True),
        "cpus": usable_cpus(),
        "memory_bytes": _memory(),
        "python": platform.python_version(),
        "runtimes": {name: version for name in RUNTIMES if (version := _version(name))},
    }


def _memory() -> int | None:
    try:
        first = MEMORY.read_text().split(maxsplit=2)
    except OSError:
        return None
    return int(first[1]) * 1024 if first[0] == "MemTotal:" else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
