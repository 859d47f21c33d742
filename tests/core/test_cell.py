from __future__ import annotations

import json
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.core import Cell, Decision, InvalidInputError, SearchSpace, UnknownNameError
from nas.core.cell import canonical_cells, live_vertices, loosened, relabelled


def space_of(inner: int, operators: int = 2) -> SearchSpace:
    edges = [f"{i}>{j}" for i, j in combinations(range(inner + 2), 2)]
    vertices = [f"op{i}" for i in range(inner)]
    return SearchSpace(
        (
            *(Decision(e, (False, True)) for e in edges),
            *(Decision(v, tuple("abc"[:operators]), ordered=False) for v in vertices),
        ),
        Cell(tuple(vertices), tuple(edges)),
    )


def brute_force_form(adjacency: np.ndarray, operators: np.ndarray) -> tuple:
    """The smallest of all relabellings of one pruned cell: canonical beyond doubt."""
    live = live_vertices(adjacency[None])[0]
    kept = np.flatnonzero(live)
    small = adjacency[np.ix_(kept, kept)]
    labels = [int(operators[i - 1]) for i in kept[1:-1]]
    forms = []
    for order in permutations(range(len(labels))):
        whole = [0, *(i + 1 for i in order), len(kept) - 1]
        forms.append(
            (tuple(small[np.ix_(whole, whole)].ravel().tolist()), tuple(labels[i] for i in order))
        )
    return min(forms)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_cells_are_equal_exactly_where_they_are_isomorphic(seed: int, inner: int) -> None:
    space = space_of(inner)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, size=(40, len(space))).astype(np.int16)
    n_edges = len(space.cell.edges)
    forms = [
        brute_force_form(space.cell.adjacency(row[:n_edges, None])[0], row[n_edges:])
        for row in rows
    ]
    keys = space.keys(rows)
    for i, j in combinations(range(len(rows)), 2):
        assert (keys[i] == keys[j]) == (forms[i] == forms[j])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_relabelling_and_loosening_give_the_same_candidate(seed: int) -> None:
    space, rng = space_of(4, 3), np.random.default_rng(seed)
    rows = space.sample(30, rng)
    assert (space.canonical(rows) == rows).all()
    n_edges = len(space.cell.edges)
    graphs, labels = space.cell.adjacency(rows[:, :n_edges].T), rows[:, n_edges:]
    order = np.argsort(rng.random(labels.shape), axis=1)
    moved, moved_labels = relabelled(graphs, labels, order)
    upper = ~(moved & np.tril(np.ones((6, 6), dtype=bool))).any(axis=(1, 2))
    again = canonical_cells(moved[upper], moved_labels[upper])
    assert (again[0] == graphs[upper]).all() and (again[1] == labels[upper]).all()
    loose = loosened(graphs, labels, rng)
    again = canonical_cells(*loose)
    assert (again[0] == graphs).all() and (again[1] == labels).all()


def test_operators_run_on_cells_and_reach_every_candidate() -> None:
    space, rng = space_of(2), np.random.default_rng(0)
    everything = set(space.keys(space.sample(4000, rng)).tolist())
    reached = set()
    rows = space.sample(1, rng)
    for _ in range(40):  # mutation alone, from one candidate on
        rows = np.concatenate([rows, space.mutate(rows, rng)])
        rows = rows[np.unique(space.keys(rows), return_index=True)[1]]
        reached |= set(space.keys(rows).tolist())
    assert reached == everything
    children = space.crossover(rows[:-1], rows[1:], rng)
    assert (space.canonical(children) == children).all()
    for row in rows[:10]:
        assert (space.row(space.candidate(row)) == row).all()
        assert len(space.neighbours(row))


def test_a_cell_survives_json_and_joining_and_is_checked() -> None:
    space = space_of(2)
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space and again.digest == space.digest
    bits = SearchSpace((Decision("bits", (4, 8)),))
    assert space.join(bits).cell == space.cell
    with pytest.raises(InvalidInputError, match="first space only"):
        bits.join(space)
    with pytest.raises(InvalidInputError, match="6 edges for 4 vertices"):
        Cell(("a", "b"), ("e",))
    with pytest.raises(UnknownNameError, match=r"space\.cell"):
        SearchSpace((Decision("x", (1, 2)),), Cell((), ("e",)))
    with pytest.raises(InvalidInputError, match="False, True"):
        SearchSpace((Decision("e", (1, 2)),), Cell((), ("e",)))
    with pytest.raises(InvalidInputError, match="outside the cell"):
        space.narrowed({"op0": ["a"]})
    with pytest.raises(InvalidInputError, match="without a cell"):
        space.rows()
