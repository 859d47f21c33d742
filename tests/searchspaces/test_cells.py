from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import searchspaces
from nas.core import Candidate, Genotypes, InvalidInputError, SearchSpace
from searchspaces.cells.network import Cell, CellNetwork, Edge, Graph, Reduction
from searchspaces.cells.topology import Pairs, cell_space
from searchspaces.compression import write_zeros
from searchspaces.counting import count
from searchspaces.layers import ConvUnit
from searchspaces.relaxed import RelaxedCells
from searchspaces.relaxed.cells import MixedCell, MixedReduction
from searchspaces.relaxed.layers import MixedConv
from tests.searchspaces.networks import finished, from_source
from workers.deployment import export_onnx, onnx_logits
from workers.profiling.runtime import execution

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 20, 33), (1, 4, 4)]
rngs = st.integers(0, 2**32 - 1).map(np.random.default_rng)
DENSE: dict[str, object] = {
    "operations": ["none", "skip_connect", "nor_conv_3x3", "avg_pool_3x3", "sep_conv_3x3",
                   "nor_conv_1x1", "nor_conv_3x3/0.9"],
    "n_nodes": 3,
}  # fmt: skip
PAIRS: dict[str, object] = {"topology": "pairs"}
SMALL: dict[str, object] = {"width": 4, "relaxed_width": 4}
kinds = st.sampled_from([{**DENSE, **SMALL}, {**PAIRS, **SMALL}])


def one_hot(space: SearchSpace, row: Genotypes) -> list[Tensor]:
    pairs = zip(space.n_options, row, strict=True)
    return [torch.eye(int(n))[max(int(option), 0)] for n, option in pairs]


def chosen(family: searchspaces.ModelFamily, rng: np.random.Generator, **bits: object) -> Candidate:
    """A random candidate, with the same bits in all stages where they are given."""
    values = dict(family.space.candidate(family.space.sample(1, rng)[0]).values)
    for i in range(1, 4):
        stage = {f"stage{i}.{name}": value for name, value in bits.items()}
        values |= stage  # type: ignore[arg-type]
    return family.space.candidate(family.space.row(values))


@given(rngs, st.sampled_from(SHAPES), kinds, st.booleans(), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_costs_equal_what_a_built_network_counts(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    kind: dict[str, object],
    unshared: bool,
    cells: int,
) -> None:
    more = {"cells": cells, "relaxed_cells": (cells + 1) // 2, "unshared": unshared}
    family = searchspaces.family("cells", shape, 7, {**kind, **more})
    rows = family.space.sample(3, rng)
    table = family.costs(rows)
    for i, row in enumerate(rows):
        network = finished(family, family.space.candidate(row))
        assert count(network, shape) == {k: float(v[i]) for k, v in table.items()}


def give(unit: object, mixed: object) -> None:
    assert isinstance(unit, ConvUnit)
    assert isinstance(mixed, MixedConv)
    with torch.no_grad():
        unit.conv.weight.copy_(mixed.conv.weight)
        if unit.conv.bias is not None and mixed.conv.bias is not None:
            unit.conv.bias.copy_(mixed.conv.bias)


def give_all(plain: CellNetwork, relaxed: RelaxedCells, graphs: dict[str, Graph]) -> None:
    """The weights of the relaxed network that a candidate's uses."""
    give(plain.stem, relaxed.stem)
    operations = relaxed.skeleton.topology.operations
    for site, cell, mixed in zip(relaxed.skeleton.sites, plain.cells, relaxed.cells, strict=True):
        if isinstance(cell, Reduction):
            assert isinstance(mixed, MixedReduction)
            give(cell.shortcut.unit, mixed.shortcut)
            give(cell.first, mixed.first)
            give(cell.second, mixed.second)
            continue
        assert isinstance(cell, Cell)
        assert isinstance(mixed, MixedCell)
        for ours, theirs in zip(cell.projections, mixed.projections, strict=True):
            give(ours.unit, theirs)
        for ends, edge in zip(cell.ends, cell.edges, strict=True):
            of_all = mixed.edges[mixed.ends.index(ends)].operations
            operation = graphs[str(site.owner)][ends]
            theirs = of_all[operations.index(operation)]  # type: ignore[index]
            for unit, other in zip(edge.units, getattr(theirs, "units", []), strict=True):  # type: ignore[arg-type]
                give(unit, other)
    with torch.no_grad():
        plain.classifier.linear.weight.copy_(relaxed.classifier.weight)
        plain.classifier.linear.bias.copy_(relaxed.classifier.bias)


@given(rngs, st.sampled_from(SHAPES[:1] + SHAPES[2:]), kinds, st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_one_hot_mixture_computes_what_the_candidates_network_does(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: dict[str, object], unshared: bool
) -> None:
    torch.manual_seed(0)
    options = {**kind, "cells": 2, "relaxed_cells": 2, "unshared": unshared, "weight_bits": [32]}
    family = searchspaces.family("cells", shape, 5, options)
    assert isinstance(family, searchspaces.CellFamily)
    relaxed, candidate = family.relaxed(), chosen(family, rng)
    assume(family.connected(family.space.row(candidate)[None])[0])  # norms of constants are noise
    plain = family.build(candidate)
    assert isinstance(plain, CellNetwork)
    give_all(plain, relaxed, family.graphs(candidate))
    family.prune(plain, candidate)
    x = torch.from_numpy(rng.normal(size=(16, *shape)).astype(np.float32))
    with torch.no_grad():
        expected = plain.train()(x)  # norms of the batch, as in the relaxed network
        found = relaxed(x, one_hot(family.space, family.space.row(candidate)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", [DENSE, PAIRS])
def test_every_decision_of_the_joint_space_gets_a_gradient(kind: dict[str, object]) -> None:
    torch.manual_seed(0)
    family = searchspaces.family("cells", (1, 8, 8), 5, {**kind, **SMALL})
    options = family.space.n_options
    mix = [torch.full((int(n),), 1 / int(n), requires_grad=True) for n in options]
    family.relaxed()(torch.randn(16, 1, 8, 8), mix).square().sum().backward()
    for name, weights in zip(family.space.names, mix, strict=True):
        assert weights.grad is not None, name
        assert weights.grad.abs().sum() > 0, name


def test_an_even_mixture_of_pairs_weighs_an_edge_by_the_pairs_that_hold_it() -> None:
    topology = Pairs(3, ["skip_connect", "max_pool_3x3"])
    space = cell_space(topology)
    mix = [torch.full((int(n),), 1 / int(n)) for n in space.n_options]
    weights = topology.weights(dict(zip(space.names, mix, strict=True)), "")
    totals = {ends: float(w.sum()) for ends, w in zip(topology.edges, weights, strict=True)}
    for target in topology.outputs:
        shares = [total for (_, j), total in totals.items() if j == target]
        assert shares == pytest.approx([2 / target] * target)


@given(rngs, st.sampled_from(SHAPES), kinds)
@settings(max_examples=8, deadline=None)
def test_plain_source_computes_the_same_without_our_packages(
    rng: np.random.Generator, shape: tuple[int, int, int], kind: dict[str, object]
) -> None:
    family = searchspaces.family("cells", shape, 5, {**kind, "cells": 2})
    network = finished(family, chosen(family, rng))
    x = torch.randn(3, *shape)
    with torch.no_grad():
        torch.testing.assert_close(from_source(network, x), network(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [DENSE, PAIRS])
@pytest.mark.parametrize("seed", range(3))
def test_an_8_bit_candidate_runs_in_integer_convolutions_alone(
    kind: dict[str, object], seed: int, tmp_path: Path
) -> None:
    torch.manual_seed(seed)
    family = searchspaces.family("cells", (1, 8, 8), 5, {**kind, "cells": 2})
    eight = {"weight_bits": 8, "activation_bits": 8, "granularity": "per_channel"}
    candidate = chosen(family, np.random.default_rng(seed), **eight)
    network = finished(family, candidate)
    n_convolutions = sum(isinstance(m, nn.Conv2d) for m in network.modules())
    export_onnx(network, family.input_shape, tmp_path / "model.onnx")
    ran = execution(tmp_path / "model.onnx").operators
    assert ran["QLinearConv"] == n_convolutions
    assert not {"Conv", "FusedConv"} & set(ran)


@pytest.mark.parametrize("bits", [4, 32])
def test_a_cell_without_operations_is_a_network_of_its_bias(tmp_path: Path, bits: int) -> None:
    family = searchspaces.family("cells", (1, 8, 8), 5, {"n_nodes": 3, "weight_bits": [bits]})
    values = dict(
        family.space.candidate(family.space.sample(1, np.random.default_rng(0))[0]).values
    )
    values |= {f"{i}>{j}": "none" for i, j in ((0, 1), (0, 2), (1, 2))}
    network = finished(family, family.space.candidate(family.space.row(values)))
    assert not any(isinstance(m, Edge) for m in network.modules())
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        logits = network(x)
    assert (logits == logits[0]).all()
    export_onnx(network, family.input_shape, tmp_path / "model.onnx")
    found = onnx_logits(tmp_path / "model.onnx", x.numpy())
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)


@given(rngs, kinds, st.booleans())
@settings(max_examples=25, deadline=None)
def test_connected_networks_are_those_whose_output_follows_the_input(
    rng: np.random.Generator, kind: dict[str, object], unshared: bool
) -> None:
    operations = (
        {"operations": ["none", "skip_connect", "nor_conv_3x3"]} if "n_nodes" in kind else {}
    )
    family = searchspaces.family(
        "cells", (1, 8, 8), 5, {**kind, **operations, "unshared": unshared}
    )
    row = family.space.sample(1, rng)
    network = family.build(family.space.candidate(row[0])).eval()
    with torch.no_grad():
        logits = network(torch.randn(8, *family.input_shape))
    assert family.connected(row)[0] == bool((logits != logits[0]).any())


def test_edges_that_lead_nowhere_are_not_built_and_cost_nothing() -> None:
    family = searchspaces.family("cells", (1, 8, 8), 5, DENSE)
    values = dict(
        family.space.candidate(family.space.sample(1, np.random.default_rng(0))[0]).values
    )
    values |= {"0>1": "none", "0>2": "skip_connect", "1>2": "none"}
    rows = [family.space.row(values | {"0>1": name}) for name in ("none", "nor_conv_3x3")]
    for column in family.costs(np.stack(rows)).values():
        assert column[0] == column[1]


def test_deeper_networks_take_the_decisions_of_the_relaxed_one() -> None:
    options = {"cells": 5, "relaxed_cells": 2, "unshared": True, **PAIRS, **SMALL}
    family = searchspaces.family("cells", (1, 8, 8), 5, options)
    assert isinstance(family, searchspaces.CellFamily)
    owners = [site.owner for site in family.skeleton.sites]
    assert owners[:6] == ["cell1.", "cell1.", "cell1.", "cell2.", "cell2.", "reduce1."]
    relaxed = [site.owner for site in family.relaxed().skeleton.sites]
    assert list(dict.fromkeys(owners)) == relaxed


def test_sparse_operations_are_shipped_with_their_zeros() -> None:
    options = {"n_nodes": 2, "operations": ["nor_conv_3x3/0.9"], "width": 8}
    family = searchspaces.family("cells", (1, 8, 8), 5, options)
    candidate = chosen(family, np.random.default_rng(0), weight_bits=32)
    network = family.build(candidate)
    family.prune(network, candidate)
    write_zeros(network)
    weights = [unit.conv.weight for m in network.modules() if isinstance(m, Edge)
               for unit in m.units if isinstance(unit, ConvUnit)]  # fmt: skip
    assert [float((w == 0).float().mean()) for w in weights] == pytest.approx([0.9] * 3, abs=0.01)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"topology": "sparse"}, "topology"),
        ({"n_nodes": 1}, "n_nodes"),
        ({"n_nodes": 2.0}, "n_nodes"),
        ({"operations": []}, "operations"),
        ({"operations": ["nor_conv_7x7"]}, "operations"),
        ({"operations": ["skip_connect/0.5"]}, "operations"),
        ({"operations": ["nor_conv_3x3/4:2"]}, "operations"),
        ({"operations": ["noise"]}, "operations"),
        ({"operations": ["none"], "topology": "pairs"}, "operations"),
        ({"operations": ["none"]}, "operations"),
        ({"n_nodes": 2}, "operations"),
        ({"width": 2}, "width"),
        ({"cells": 0}, "cells"),
        ({"relaxed_cells": 2}, "relaxed_cells"),
        ({"unshared": 1}, "unshared"),
        ({"weight_bits": [1]}, "weight_bits"),
        ({"depths": [1]}, "depths"),
    ],
)
def test_bad_options_name_the_option(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"space\.options\.{field}"):
        searchspaces.family("cells", (1, 8, 8), 10, options)


def test_there_is_no_supernet() -> None:
    with pytest.raises(InvalidInputError, match="none for the cells family"):
        searchspaces.family("cells", (1, 8, 8), 10).supernet()
