"""Families of ordinary torch networks: their layers are found by tracing them."""

from searchspaces.traced.family import TracedFamily, TracedOptions

__all__ = ["TracedFamily", "TracedOptions"]
