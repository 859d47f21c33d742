"""Costs counted on a built network as it runs, layer by layer; the check on the closed forms.

Within an inverted bottleneck a residual is held beside each layer's input and output; within a cell
its inputs are, and its nodes from when they are complete until it ends (see `cells/costs.py`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from searchspaces.cells.network import Cell, Node, Projection, Reduction
from searchspaces.costs import BIAS_BYTES, SCALE_BYTES
from searchspaces.layers import FLOAT_BITS, ActivationQuantizer, ConvUnit, LinearUnit
from searchspaces.network import Bottleneck


def count(network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, float]:
    """Costs of a quantized network (batch norms folded), from a forward pass of one image.

    The names are those of `ModelFamily.costs`.
    """
    counter = _Counter()
    handles = []
    for module in network.modules():
        match module:
            case ActivationQuantizer():
                handles.append(module.register_forward_hook(counter.quantized))
            case ConvUnit() | LinearUnit():
                handles.append(module.register_forward_hook(counter.weighted))
            case Bottleneck():
                handles.append(module.register_forward_pre_hook(counter.enter_block))
                handles.append(module.register_forward_hook(counter.leave_block))
            case Cell() | Reduction():
                handles.append(module.register_forward_pre_hook(counter.enter_cell))
                handles.append(module.register_forward_hook(counter.leave_cell))
            case Node() | Projection():
                handles.append(module.register_forward_hook(counter.node))
            case _:
                pass
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, *input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return counter.table()


class _Counter:
    """Sums over the weighted layers a forward pass meets, and the bits each tensor is held in."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(("params", "macs", "bit_ops", "weight_bytes"), 0)
        self.peak_bits = 0
        self.held: Tensor | None = None
        self.cell_bits = 0
        self.quantized_to: list[tuple[Tensor, int]] = []

    def table(self) -> dict[str, float]:
        peak = math.ceil(self.peak_bits / 8)
        return {**{k: float(v) for k, v in self.sums.items()}, "peak_activation_bytes": float(peak)}

    def quantized(self, module: ActivationQuantizer, args: tuple[Tensor], out: Tensor) -> None:
        self.quantized_to.append((out, module.bits))

    def enter_block(self, module: Bottleneck, args: tuple[Tensor]) -> None:
        self.held = args[0] if module.residual else None

    def leave_block(self, module: Bottleneck, args: tuple[Tensor], out: Tensor) -> None:
        self.held = None

    def enter_cell(self, module: Cell | Reduction, args: tuple[Tensor, ...]) -> None:
        distinct = {id(t): t for t in args}.values()
        self.cell_bits = sum(t.numel() * self._bits(t) for t in distinct)

    def node(self, module: Node | Projection, args: object, out: Tensor) -> None:
        if isinstance(module, Node) and module.output_quantizer is None:
            self.quantized_to.append((out, FLOAT_BITS))
        self.cell_bits += out.numel() * self._bits(out)

    def leave_cell(self, module: Cell | Reduction, args: object, out: Tensor) -> None:
        self.peak_bits = max(self.peak_bits, self.cell_bits)
        self.cell_bits = 0

    def weighted(self, module: ConvUnit | LinearUnit, args: tuple[Tensor], out: Tensor) -> None:
        layer = module.conv if isinstance(module, ConvUnit) else module.linear
        quantizer = module.weight_quantizer
        bits = FLOAT_BITS if quantizer is None else quantizer.grid.bits
        n_weights, n_out = layer.weight.numel(), len(layer.weight)
        index_bits = 0
        if isinstance(module, ConvUnit) and module.sparsity is not None:
            n_weights = int(module.sparsity.mask(layer.weight).sum())
            index_bits = n_out * int(module.sparsity.index_bits(layer.weight[0].numel()))
        macs = n_weights * math.prod(out.shape[2:])
        if isinstance(module, ConvUnit) and module.output_quantizer is None:
            self.quantized_to.append((args[0], FLOAT_BITS))
        n_scales = 0 if quantizer is None else quantizer.scale(layer.weight).numel()
        self.sums["params"] += n_weights + n_out
        self.sums["macs"] += macs
        self.sums["bit_ops"] += macs * bits * self._bits(args[0])
        self.sums["weight_bytes"] += (
            math.ceil((n_weights * bits + index_bits) / 8)
            + n_out * BIAS_BYTES
            + n_scales * SCALE_BYTES
        )
        tensors = [args[0], out]
        if self.held is not None and self.held is not args[0]:
            tensors.append(self.held)
        needed = self.cell_bits + sum(t.numel() * self._bits(t) for t in tensors)
        self.peak_bits = max(self.peak_bits, needed)

    def _bits(self, tensor: Tensor) -> int:
        """What `tensor` was last quantized to."""
        for seen, bits in reversed(self.quantized_to):
            if seen is tensor:
                return bits
        return FLOAT_BITS
