"""Pruning and quantization: their decisions as spaces, and the handlers that apply them."""

from searchspaces.compression.pruning import (
    kept_channels,
    prune_hidden,
    pruning_space,
    set_sparsity,
    sparsify,
    write_zeros,
)
from searchspaces.compression.quantization import StageBits, quantization_space, quantize_network

__all__ = [
    "StageBits",
    "kept_channels",
    "prune_hidden",
    "pruning_space",
    "quantization_space",
    "quantize_network",
    "set_sparsity",
    "sparsify",
    "write_zeros",
]
