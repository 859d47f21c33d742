"""An ordinary network as a graph of units that prune, fold, quantize and export."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from nas.core import InvalidInputError
from searchspaces.layers import ConvUnit, LinearUnit, Rounding

FUSED: tuple[object, ...] = (nn.ReLU, nn.ReLU6, torch.relu, F.relu, F.relu6, "relu")
"""What runtimes compute within a convolution."""

KEPT: tuple[object, ...] = (
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    torch.flatten,
    torch.squeeze,
    torch.chunk,
    torch.split,
    operator.getitem,
    F.dropout,
    F.dropout2d,
    "flatten",
    "squeeze",
    "chunk",
    "split",
    "view",
    "reshape",
    "contiguous",
)
"""What moves values without changing them."""


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Mark:
    """Where something that has bits stands.

    Attributes:
        stage: index of the stage whose bits it has.
        is_edge: whether it belongs to the first or the last layer.
    """

    stage: int
    is_edge: bool = False


class TracedNetwork(nn.Module):
    """A graph whose weighted layers are units and whose other results can be rounded.

    Attributes:
        body: the graph.
        marks: of the units and roundings, by name within `body`.
        shapes: of the tensors of one image, by name of the node that makes them.
        holders: the node whose tensor another's is in the end, by name: the rounding behind a
            result and its rectifiers, or what a view looks at.
    """

    def __init__(
        self,
        body: fx.GraphModule,
        marks: Mapping[str, Mark],
        shapes: Mapping[str, Shape],
        holders: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.body = body
        self.marks, self.shapes, self.holders = dict(marks), dict(shapes), dict(holders)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` images to `(B, classes)` logits."""
        out: Tensor = self.body(x)
        return out

    @property
    def out_shape(self) -> Shape:
        """Of the logits of one image."""
        (output,) = (node for node in self.body.graph.nodes if node.op == "output")
        return self.shapes.get(getattr(output.args[0], "name", ""), ())

    def unit(self, node: fx.Node) -> ConvUnit | LinearUnit | Rounding | None:
        """What a node of the graph calls, if it may have bits."""
        if node.op != "call_module":
            return None
        module = self.body.get_submodule(str(node.target))
        return module if isinstance(module, (ConvUnit, LinearUnit, Rounding)) else None


def traced(network: nn.Module, stages: Sequence[str], input_shape: Shape) -> TracedNetwork:
    """`network`, whose modules are taken over, as a graph.

    A batch norm and a rectifier that follow a convolution join its unit. Every other result that
    another layer reads can be rounded: sums, products, pools, concatenations, activations.

    Args:
        network: of convolutions, linear layers, batch norms, and anything without weights.
        stages: names of submodules whose layers share bits; others have those of the layer before.
        input_shape: `(C, H, W)` of an image.

    Raises:
        InvalidInputError: torch.fx cannot follow it, or a layer with weights of another kind.
    """
    present = dict(network.named_modules())
    for stage in stages:
        if stage not in present:
            raise _refused(network, f"submodules named as the stages; there is no {stage!r}")
    try:
        body = fx.GraphModule(network, fx.Tracer().trace(network))
        shapes = _Shapes(body.eval()).of(torch.zeros(1, *input_shape))
    except Exception as error:  # a user's forward may raise anything
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _refused(network, f"a forward that torch.fx can trace and run ({why})") from error
    body.train()
    owners = {node.name: _owner(node) for node in body.graph.nodes}
    _check(body, network)
    for node in [n for n in body.graph.nodes if kind_of(body, n) in (nn.Conv2d, nn.Linear)]:
        _join(body, node)
    for node in body.graph.nodes:
        if kind_of(body, node) is nn.BatchNorm2d:
            expected = "batch norms right behind a convolution that nothing else reads"
            raise _refused(network, f"{expected}, which {node.target} is not")
    holders = _add_roundings(body, owners, shapes)
    body.recompile()
    return TracedNetwork(body, _marks(body, owners, stages, network), shapes, holders)


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps the shapes of its tensors."""

    def of(self, x: Tensor) -> dict[str, Shape]:
        """By name of the node."""
        self.found: dict[str, Shape] = {}
        with torch.no_grad():
            self.run(x)
        return self.found

    def run_node(self, n: fx.Node) -> Any:
        """As it is run, its shape noted."""
        out = super().run_node(n)
        if isinstance(out, Tensor):
            self.found[n.name] = tuple(out.shape)
        return out


def kind_of(body: fx.GraphModule, node: fx.Node) -> object:
    """The class of a module, the function, or the name of the method that a node calls."""
    if node.op == "call_module":
        return type(body.get_submodule(str(node.target)))
    return node.target


def is_weighted(body: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node calls a layer with weights."""
    return kind_of(body, node) in (ConvUnit, LinearUnit)


def _check(body: fx.GraphModule, network: nn.Module) -> None:
    """Refuse what cannot be pruned, folded and quantized."""
    calls: set[str] = set()
    for node in body.graph.nodes:
        if node.op == "get_attr" and isinstance(_attribute(body, node), nn.Parameter):
            raise _refused(network, f"no parameter outside a layer, as {node.target} is")
        if node.op != "call_module":
            continue
        name, module = str(node.target), body.get_submodule(str(node.target))
        if not any(True for _ in module.parameters()):
            continue
        if name in calls:
            raise _refused(network, f"every layer called once; {name} is called twice")
        calls.add(name)
        if type(module) not in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
            expected = "Conv2d, Linear and BatchNorm2d as the only layers with weights"
            raise _refused(network, f"{expected}; {name} is a {type(module).__name__}")
        if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
            raise _refused(network, f"zeros as padding; {name} pads with {module.padding_mode}")


def _attribute(body: fx.GraphModule, node: fx.Node) -> object:
    owner, _, name = str(node.target).rpartition(".")
    return getattr(body.get_submodule(owner), name)


def _join(body: fx.GraphModule, node: fx.Node) -> None:
    """Replace a weighted layer, and what follows within its unit, by the unit."""
    layer = body.get_submodule(str(node.target))
    if isinstance(layer, nn.Linear):
        _put(body, str(node.target), LinearUnit.of(layer))
    elif isinstance(layer, nn.Conv2d):
        norm = _taken(body, node, (nn.BatchNorm2d,))
        rectifier = _taken(body, node, FUSED)
        clips = rectifier is F.relu6 or isinstance(rectifier, nn.ReLU6)
        activation = None if rectifier is None else nn.ReLU6() if clips else nn.ReLU()
        _put(body, str(node.target), ConvUnit.of(layer, norm, activation))


def _taken(body: fx.GraphModule, node: fx.Node, kinds: Sequence[object]) -> Any:
    """What the only reader of `node` calls, out of the graph now, if it is one of `kinds`."""
    readers = list(node.users)
    if len(readers) != 1 or kind_of(body, readers[0]) not in kinds:
        return None
    (reader,) = readers
    name, called = str(reader.target), cast(Any, reader.target)
    reader.replace_all_uses_with(node)
    body.graph.erase_node(reader)
    if reader.op == "call_module":
        called = body.get_submodule(name)
        if all(str(other.target) != name for other in body.graph.nodes):
            body.delete_submodule(name)
    return called


def _add_roundings(
    body: fx.GraphModule, owners: dict[str, str], shapes: dict[str, Shape]
) -> dict[str, str]:
    """A rounding behind every result that is read, and behind its rectifiers; the holders."""
    holders: dict[str, str] = {}
    for node in list(body.graph.nodes):
        kind = kind_of(body, node)
        if node.op == "output" or node.name not in shapes or node.name in holders:
            continue
        if kind in KEPT:
            source = node.all_input_nodes[0].name
            holders[node.name] = holders.get(source, source)
        if kind in (ConvUnit, *KEPT):
            continue
        chain = _chain(body, node)
        if all(reader.op == "output" for reader in chain[-1].users):
            continue
        rounding = _rounded(body, chain[-1])
        owners[rounding.name], shapes[rounding.name] = owners[node.name], shapes[chain[-1].name]
        holders |= {passed.name: rounding.name for passed in chain}
    return holders


def _chain(body: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """`node`, and the rectifiers and views behind it, as long as nothing else reads it."""
    chain = [node]
    while len(node.users) == 1:
        node = next(iter(node.users))
        if kind_of(body, node) not in (*KEPT, *FUSED):
            break
        chain.append(node)
    return chain


def _rounded(body: fx.GraphModule, node: fx.Node) -> fx.Node:
    """A new rounding, read instead of `node`."""
    name = f"rounding_{node.name}"
    body.add_module(name, Rounding())
    with body.graph.inserting_after(node):
        rounding = body.graph.call_module(name, (node,))
    node.replace_all_uses_with(rounding, delete_user_cb=lambda user: user is not rounding)
    return rounding


def _marks(
    body: fx.GraphModule, owners: Mapping[str, str], stages: Sequence[str], network: nn.Module
) -> dict[str, Mark]:
    weighted = [str(node.target) for node in body.graph.nodes if is_weighted(body, node)]
    if not weighted:
        raise _refused(network, "a convolution or a linear layer at least")
    marks: dict[str, Mark] = {}
    stage = 0
    for node in body.graph.nodes:
        if node.op != "call_module" and node.op != "placeholder":
            continue
        stage = _stage_of(owners[node.name], stages, stage)
        if kind_of(body, node) not in (ConvUnit, LinearUnit, Rounding):
            continue
        edge = str(node.target) in (weighted[0], weighted[-1])
        if kind_of(body, node) is Rounding:
            reads_images = node.all_input_nodes[0].op == "placeholder"
            edge = reads_images or _is_read_last(node, weighted[-1])
        marks[str(node.target)] = Mark(stage, edge)
    return marks


def _is_read_last(node: fx.Node, last: str) -> bool:
    return [str(reader.target) for reader in node.users] == [last]


def _stage_of(owner: str, stages: Sequence[str], before: int) -> int:
    """Index of the innermost stage that holds `owner`; `before` where none does."""
    holding = [s for s in stages if f"{owner}.".startswith(f"{s}.")]
    return stages.index(max(holding, key=len)) if holding else before


def _owner(node: fx.Node) -> str:
    """Name of the module in whose forward a node stands."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _put(body: fx.GraphModule, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(body.get_submodule(parent), child, module)


def _refused(network: nn.Module, expected: str) -> InvalidInputError:
    return InvalidInputError("space", type(network).__name__, expected)
