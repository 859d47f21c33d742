"""Readable source of a finished network: a plain `torch.nn.Module` that imports torch alone."""

from __future__ import annotations

import copy
import re

from torch import Tensor, fx, nn

from searchspaces.compression.quantization import bake_weights

WEIGHTS = "model.safetensors"
"""The file that the docstring loads weights from."""

TEMPLATE = '''"""{title}

    from safetensors.torch import load_file
    network = Network()
    network.load_state_dict(load_file("{weights}"))
    network.eval()
"""

import torch
from torch import device, nn  # noqa: F401


class Network(nn.Module):
    """Takes images {shape}, returns logits."""

    def __init__(self):
        super().__init__()
{layers}

{forward}
'''


def plain_module_source(
    network: nn.Module, example: Tensor, title: str
) -> tuple[str, dict[str, Tensor]]:
    """Source of a module `Network` that computes what `network` does, and its state dict.

    Weights hold their quantized values; activation grids stand in the source as numbers.

    Args:
        network: finished network; not changed.
        example: `(B, C, H, W)` images.
        title: first line of the source's docstring.
    """
    final = copy.deepcopy(network).eval().cpu()
    bake_weights(final)
    traced = fx.symbolic_trace(final)
    leaves = _flatten(traced)
    code = traced.graph.python_code("self", verbose=False).src
    source = TEMPLATE.format(
        title=title,
        weights=WEIGHTS,
        shape=f"(batch, {', '.join(str(s) for s in example.shape[1:])})",
        layers="\n".join(
            f"        self.{name} = nn.{_made(leaf)}" for name, leaf in leaves.items()
        ),
        forward=_indented(code),
    )
    state = {
        f"{name}.{key}": value.detach().clone().contiguous()
        for name, leaf in leaves.items()
        for key, value in leaf.state_dict().items()
    }
    return source, state


def _flatten(traced: fx.GraphModule) -> dict[str, nn.Module]:
    """Make all that is called a direct child, in place; gives those children by their names."""
    leaves: dict[str, nn.Module] = {}
    for node in traced.graph.nodes:
        node.type = None
        if node.op == "call_module":
            leaf = traced.get_submodule(node.target)
            flat = _flat_name(str(node.target))
            leaves[flat] = leaf
            traced.add_module(flat, leaf)
            node.target = flat
    return leaves


def _made(leaf: nn.Module) -> str:
    """The call that makes a layer, with what its `repr` leaves out: settings, and quotes."""
    if isinstance(leaf, nn.AvgPool2d):
        return f"{repr(leaf)[:-1]}, count_include_pad={leaf.count_include_pad})"
    return re.sub(r"padding=(same|valid)", r'padding="\1"', repr(leaf))


def _flat_name(target: str) -> str:
    """`stages.0.blocks.1.expand.conv` as `stage1_block2_expand_conv`."""
    numbered = re.sub(r"s\.(\d+)", lambda match: str(int(match.group(1)) + 1), target)
    return numbered.replace(".", "_")


def _indented(code: str) -> str:
    freed = re.compile(r";  \w+( = \w+)* = None$|  # type:.*$")
    lines = [freed.sub("", line) for line in code.strip().splitlines() if line.strip()]
    start = next(i for i, line in enumerate(lines) if line.startswith("def forward"))
    return "\n".join("    " + line for line in lines[start:])
