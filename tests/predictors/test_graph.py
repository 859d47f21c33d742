from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from nas.core import Cell, Decision, InvalidInputError, SearchSpace
from predictors.encoders import encode, feature_names
from predictors.graph import GraphEnsemble, GraphLayout

N, OPERATORS = 5, 3
PAIRS = list(permutations(range(N), 2))
FULL = GraphLayout(
    OPERATORS,
    (None, *range(len(PAIRS), len(PAIRS) + 9, 3), None),
    tuple((i, j, column) for column, (i, j) in enumerate(PAIRS)),
)
"""Any directed graph of an input, three inner vertices and an output."""


def graphs(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bits = rng.random((n, len(PAIRS))) < 0.4
    operators = np.eye(OPERATORS)[rng.integers(OPERATORS, size=(n, 3))].reshape(n, -1)
    return np.concatenate([bits, operators], axis=1).astype(np.float32)


def relabelled(x: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """The same graphs with inner vertex `order[i]` at place i."""
    places = [0, *order, N - 1]
    edges = [PAIRS.index((places[i], places[j])) for i, j in PAIRS]
    start = [len(PAIRS) + 3 * (vertex - 1) for vertex in order]
    return x[:, edges + [s + k for s in start for k in range(3)]]


def truth(x: np.ndarray) -> np.ndarray:
    """Edges, and how many operators of the first kind the input feeds."""
    fed = [x[:, PAIRS.index((0, v))] * x[:, len(PAIRS) + 3 * (v - 1)] for v in (1, 2, 3)]
    return np.stack([x[:, : len(PAIRS)].sum(axis=1), 10.0 * np.sum(fed, axis=0)], axis=1)


def small(layout: GraphLayout, n_steps: int = 120) -> GraphEnsemble:
    return GraphEnsemble(layout, n_members=2, width=24, n_steps=n_steps)


def test_relabelling_vertices_changes_nothing() -> None:
    x = graphs(60, 0)
    fitted = small(FULL, 30).fit(x, truth(x))
    found = fitted.predict(x)
    for order in ((2, 1, 3), (3, 1, 2)):
        moved = relabelled(x, order)
        assert not np.array_equal(moved, x)
        np.testing.assert_allclose(fitted.predict(moved).mean, found.mean, rtol=1e-4, atol=1e-4)


def test_it_learns_what_depends_on_the_graph() -> None:
    x, new = graphs(300, 0), graphs(200, 1)
    found = small(FULL).fit(x, truth(x)).predict(new).mean
    for j in range(2):
        assert np.corrcoef(found[:, j], truth(new)[:, j])[0, 1] > 0.85


def test_direction_and_labels_are_read_from_the_columns() -> None:
    layout = GraphLayout(2, (None, 2, None), ((0, 1, 0), (1, 2, 1), (0, 2, None)))
    x = np.array([[1, 0, 0, 1], [-1, 1, 1, 0], [1, 1, 0, 0]], dtype=np.float32)
    adjacency, labels = layout.read(x)
    np.testing.assert_array_equal(adjacency[0], [[0, 1, 1], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(adjacency[1], [[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(adjacency[2], [[0, 0, 1], [0, 0, 0], [0, 0, 0]])  # no vertex 1
    np.testing.assert_array_equal(labels[0], [[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(labels[2, 1], [0, 0, 0, 0])


def test_vertices_that_do_not_exist_do_not_count() -> None:
    x = graphs(40, 0)
    fitted = small(FULL, 20).fit(x, truth(x))
    absent = x.copy()
    absent[:, -3:] = 0
    touching = [c for c, pair in enumerate(PAIRS) if 3 in pair]
    other = absent.copy()
    other[:, touching] = 1 - other[:, touching]
    np.testing.assert_array_equal(fitted.predict(absent).mean, fitted.predict(other).mean)


def test_operators_on_edges_become_vertices() -> None:
    layout = GraphLayout.on_edges(4, 5)
    assert layout.operators == (None, 0, 5, 10, 15, 20, 25, None)
    edges = {(i, j) for i, j, column in layout.edges if column is None}
    assert len(edges) == len(layout.edges)
    # edges 0>1 0>2 1>2 0>3 1>3 2>3 are vertices 1 to 6
    assert edges == {(0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 6), (3, 6)} | {
        (i, 7) for i in (4, 5, 6)
    }


def test_the_layout_of_a_space_of_cells_follows_its_features() -> None:
    cell = Cell(("a", "b"), ("01", "02", "03", "12", "13", "23"))
    space = SearchSpace(
        (
            Decision("width", (1, 2, 3)),
            *(Decision(edge, (False, True), ordered=False) for edge in cell.edges),
            *(Decision(vertex, ("conv", "pool"), ordered=False) for vertex in cell.operators),
        ),
        cell,
    )
    layout = GraphLayout.of_cells(space)
    names = feature_names(space)
    assert names[layout.operators[1] or 0] == "a=conv"
    assert [(i, j, names[c or 0]) for i, j, c in layout.edges][:2] == [
        (0, 1, "01=True"),
        (0, 2, "02=True"),
    ]
    values = {"width": 2, "a": "pool", "b": "conv", **dict.fromkeys(cell.edges, False)}
    values |= {"01": True, "12": True, "23": True}
    adjacency, labels = layout.read(encode(space, space.row(values)[None]))
    assert adjacency.sum() == 3
    np.testing.assert_array_equal(labels[0, 1:3, :2].argmax(axis=1), [1, 0])


def test_a_layout_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="vertices 0 to"):
        GraphLayout(1, (None, 0), ((0, 2, None),))
    with pytest.raises(InvalidInputError, match="candidates are cells"):
        GraphLayout.of_cells(SearchSpace((Decision("a", (1, 2)),)))
