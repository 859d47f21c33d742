"""What a space of cells offers."""

from __future__ import annotations

from dataclasses import dataclass

from nas.core import InvalidInputError
from searchspaces.cells.operations import Kind, operation
from searchspaces.cells.topology import Dense, Pairs, Topology
from searchspaces.options import Options, check_texts, check_whole, refused

TOPOLOGIES = ("dense", "pairs")
DENSE_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
PAIRS_OPERATIONS = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
)


@dataclass(frozen=True)
class CellOptions(Options):
    """What the space offers, besides bits.

    Attributes:
        topology: `dense` (NAS-Bench-201) or `pairs` (DARTS).
        n_nodes: of a cell; `dense` counts the input as one, and has 4 where None; `pairs` counts
            those between its two inputs and its output, and has 2 where None.
        operations: that an edge may have; convolutions may be sparse, `nor_conv_3x3/0.95`. None
            takes those of the paper.
        width: channels of the first stage; later ones double it.
        cells: per stage, besides reductions.
        relaxed_cells: per stage of the relaxed network, from which the others take their decisions.
        relaxed_width: channels of the relaxed network's first stage.
        unshared: whether every relaxed cell has decisions of its own (D-DARTS).
    """

    topology: str = "dense"
    n_nodes: int | None = None
    operations: tuple[str, ...] | None = None
    width: int = 8
    cells: int = 1
    relaxed_cells: int = 1
    relaxed_width: int = 8
    unshared: bool = False

    def check(self) -> None:
        """Refuse what these options cannot be.

        Raises:
            InvalidInputError: a value that one cannot have.
        """
        if self.topology not in TOPOLOGIES:
            raise refused("topology", self.topology, f"one of {', '.join(TOPOLOGIES)}")
        if self.n_nodes is not None:
            check_whole("n_nodes", self.n_nodes, 2 if self.topology == "dense" else 1, 8)
        if self.operations is not None:
            self._check_operations(self.operations)
        self._check_connected()
        check_whole("width", self.width, 4, 512)
        check_whole("relaxed_width", self.relaxed_width, 4, 512)
        check_whole("cells", self.cells, 1, 20)
        check_whole("relaxed_cells", self.relaxed_cells, 1, self.cells)
        if not isinstance(self.unshared, bool):
            raise refused("unshared", self.unshared, "false or true")

    def graph(self) -> Topology:
        """The topology of every cell."""
        if self.topology == "dense":
            return Dense(self.n_nodes or 4, self.operations or DENSE_OPERATIONS)
        return Pairs(self.n_nodes or 2, self.operations or PAIRS_OPERATIONS)

    def _check_connected(self) -> None:
        operations = self.operations or DENSE_OPERATIONS
        if self.topology == "pairs" or "none" not in operations:
            return
        if self.n_nodes == 2:
            raise refused("operations", operations, "no `none` with 2 nodes, joined by one edge")
        if len(operations) == 1:
            raise refused("operations", operations, "more than `none`, which gives constants alone")

    def _check_operations(self, names: tuple[str, ...]) -> None:
        check_texts("operations", names, "names of operations")
        for name in names:
            try:
                kind = operation(name).kind
            except InvalidInputError as error:
                raise refused("operations", error.value, error.expected) from error
            if kind is Kind.NOISE:
                raise refused("operations", name, "operations whose output follows their input")
            if kind is Kind.NONE and self.topology == "pairs":
                raise refused("operations", name, "no `none`: which inputs a node has is decided")
