"""Neural architecture search: architecture x pruning x quantization, measured as shipped.

    import nas
    front = nas.search(data="digits", objectives=["accuracy", "latency_ms"], trials=30)
    print(front.to_frame())
    front.best("latency_ms<=0.1").export("my_model")

`import nas` alone is light: each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api import preview, search
    from nas.client import Client
    from nas.front import Front, Model

__version__ = "0.1.0"
__all__ = ["Client", "Front", "Model", "__version__", "preview", "search"]

_HOMES = {"Client": "client", "Front": "front", "Model": "front", "preview": "api", "search": "api"}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used: `import nas` alone stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nas.{_HOMES[name]}"), name)
