from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import Cell, Decision, InvalidInputError, SearchSpace
from nas.core.cell_features import graph_features
from nas.core.graphs import Graphs, cell_graphs, live_part, without

OPERATORS = ("a", "b", "c")


def space_of(inner: int) -> SearchSpace:
    edges = [f"{i}>{j}" for i, j in combinations(range(inner + 2), 2)]
    vertices = [f"op{i}" for i in range(inner)]
    return SearchSpace(
        (
            *(Decision(e, (False, True)) for e in edges),
            *(Decision(v, OPERATORS, ordered=False) for v in vertices),
        ),
        Cell(tuple(vertices), tuple(edges)),
    )


def random_cells(space: SearchSpace, n: int, seed: int) -> np.ndarray:
    """`(n, d)` rows that are not canonical: dead vertices and all."""
    return np.random.default_rng(seed).integers(0, space.n_options, (n, len(space))).astype("i2")


def walked(adjacency: np.ndarray, operators: list[str]) -> list[list[str]]:
    """The operators along each way from the first vertex to the last."""
    found, waiting = [], [(0, [])]
    while waiting:
        vertex, seen = waiting.pop()
        if vertex == len(adjacency) - 1:
            found.append(seen)
            continue
        for target in np.flatnonzero(adjacency[vertex]):
            inner = target < len(adjacency) - 1
            waiting.append((target, [*seen, operators[target - 1]] if inner else seen))
    return found


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_isomorphic_cells_have_the_same_features(seed: int, inner: int) -> None:
    space = space_of(inner)
    rows = random_cells(space, 30, seed)
    plain, canonical = (
        graph_features(cell_graphs(space, r)) for r in (rows, space.canonical(rows))
    )
    for name, values in plain.items():
        np.testing.assert_allclose(values, canonical[name], rtol=1e-12, err_msg=name)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_features_are_what_walking_every_way_finds(seed: int) -> None:
    space = space_of(4)
    row = random_cells(space, 1, seed)
    found = {name: values[0] for name, values in graph_features(cell_graphs(space, row)).items()}
    adjacency = space.cell.adjacency(row[:, : len(space.cell.edges)].T)
    operators = [OPERATORS[o] for o in row[0, len(space.cell.edges) :]]
    ways = walked(adjacency[0], operators)
    assert found["ways"] == len(ways)
    assert found["fewest operators on a way"] == min(map(len, ways), default=0)
    for name in OPERATORS:
        numbers = [way.count(name) for way in ways] or [0]
        assert found[f"most {name} on a way"] == max(numbers)
        assert found[f"mean {name} on a way"] == pytest.approx(np.mean(numbers))
    assert found["mean operators on a way"] == pytest.approx(np.mean([*map(len, ways)] or [0]))
    live = live_part(adjacency)[0]
    ends = ["input", *operators, "output"]
    for source in ("input", *OPERATORS):
        for target in (*OPERATORS, "output"):
            number = sum(
                live[i, j] for i, j in np.argwhere(live) if (ends[i], ends[j]) == (source, target)
            )
            assert found[f"edges {source} > {target}"] == number
    assert found["edges"] == live.sum()
    assert found["vertices"] == sum(found[f"n {name}"] for name in OPERATORS)


def test_vertices_may_have_operators_of_their_own() -> None:
    cell = Cell(("x", "y"), ("01", "02", "03", "12", "13", "23"))
    space = SearchSpace(
        (
            *(Decision(edge, (False, True)) for edge in cell.edges),
            Decision("x", (3, 5), ordered=True),
            Decision("y", ("pool", 3), ordered=False),
        ),
        cell,
    )
    values = {**dict.fromkeys(cell.edges, False), "01": True, "12": True, "23": True}
    found = graph_features(cell_graphs(space, space.row({**values, "x": 3, "y": 3})[None]))
    assert found["n 3"][0] == 2 and found["edges 3 > 3"][0] == 1 and found["n pool"][0] == 0


def test_labels_are_the_operators_of_vertices_with_an_edge() -> None:
    edges = np.zeros((1, 4, 4))
    edges[0, 0, 2] = edges[0, 2, 3] = 1
    labels = Graphs(edges, np.array([[0, 1]]), ["a", "b"]).labels
    expected = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    np.testing.assert_array_equal(labels[0], expected)


def test_a_vertex_that_passes_on_is_replaced_by_its_ways() -> None:
    edges = np.zeros((2, 4, 4))
    edges[:, 0, 1] = edges[:, 1, 2] = edges[:, 1, 3] = edges[:, 2, 3] = 1
    edges[:, 0, 2] = 1
    kept = edges.copy()
    found = without(edges, np.array([[False, True, False, False], [False] * 4]))
    np.testing.assert_array_equal(edges, kept)
    np.testing.assert_array_equal(found[1], edges[1])
    assert found[0, 0, 2] == 2 and found[0, 0, 3] == 1 and found[0, 2, 3] == 1
    assert found[0].sum() == 4
    operators = np.array([[-1, 0]])
    ways = [graph_features(Graphs(g, operators, ["a"]))["ways"][0] for g in (edges[:1], found[:1])]
    assert ways == [3, 3]


def test_no_rows_and_no_ways_are_no_trouble() -> None:
    space = space_of(3)
    nothing = np.zeros((1, len(space)), dtype=np.int16)
    one, none = (graph_features(cell_graphs(space, rows)) for rows in (nothing, nothing[:0]))
    assert all(values[0] == 0 for values in one.values())
    assert all(values.shape == (0,) for values in none.values())


def test_a_space_without_cells_is_refused() -> None:
    space = SearchSpace((Decision("width", (8, 16)),))
    with pytest.raises(InvalidInputError, match="a space whose candidates are cells"):
        cell_graphs(space, space.rows())
