from __future__ import annotations

import numpy as np
import pytest

from predictors.graph import GraphEnsemble

N, OPERATORS = 5, 3


def graphs(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges `(n, 5, 5)` and labels `(n, 5, 5)` of graphs of three inner vertices."""
    rng = np.random.default_rng(seed)
    edges = np.triu(rng.random((n, N, N)) < 0.5, k=1).astype(np.float32)
    labels = np.zeros((n, N, 2 + OPERATORS), dtype=np.float32)
    labels[:, 0, 0] = labels[:, -1, 1] = 1
    labels[:, 1:-1, 2:] = np.eye(OPERATORS)[rng.integers(OPERATORS, size=(n, N - 2))]
    return edges, labels


def flat(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def truth(edges: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Edges, and how many operators of the first kind the input feeds."""
    fed = (edges[:, 0] * labels[:, :, 2]).sum(axis=1)
    return np.stack([edges.sum(axis=(1, 2)), 10.0 * fed], axis=1)


def small(n_steps: int = 120) -> GraphEnsemble:
    return GraphEnsemble(N, 2 + OPERATORS, n_members=2, width=24, n_steps=n_steps)


def test_relabelling_vertices_changes_nothing() -> None:
    edges, labels = graphs(60, 0)
    fitted = small(30).fit(flat(edges, labels), truth(edges, labels))
    found = fitted.predict(flat(edges, labels))
    for order in ([0, 2, 1, 3, 4], [0, 3, 1, 2, 4]):
        moved = flat(edges[:, order][:, :, order], labels[:, order])
        assert not np.array_equal(moved, flat(edges, labels))
        again = fitted.predict(moved)
        np.testing.assert_allclose(again.mean, found.mean, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(again.std, found.std, rtol=1e-2, atol=1e-3)


def test_it_learns_what_depends_on_the_graph() -> None:
    seen, new = graphs(300, 0), graphs(200, 1)
    found = small().fit(flat(*seen), truth(*seen)).predict(flat(*new)).mean
    for j in range(2):
        assert np.corrcoef(found[:, j], truth(*new)[:, j])[0, 1] > 0.85


def test_the_direction_of_edges_counts() -> None:
    edges, labels = graphs(100, 0)
    fitted = small(20).fit(flat(edges, labels), truth(edges, labels))
    there, back = (fitted.predict(flat(e, labels)).mean for e in (edges, edges.transpose(0, 2, 1)))
    assert np.abs(there - back).max() > 0.1


def test_vertices_that_do_not_exist_do_not_count() -> None:
    edges, labels = graphs(40, 0)
    edges[:, 3] = edges[:, :, 3] = labels[:, 3] = 0
    y, kept = truth(edges, labels), [0, 1, 2, 4]
    less = flat(edges[:, kept][:, :, kept], labels[:, kept])
    small_net = GraphEnsemble(4, 2 + OPERATORS, n_members=2, width=24, n_steps=5)
    found, expected = small(5).fit(flat(edges, labels), y), small_net.fit(less, y)
    np.testing.assert_allclose(
        found.predict(flat(edges, labels)).mean, expected.predict(less).mean, rtol=1e-3, atol=1e-3
    )


def test_other_features_are_learned_from_whatever_their_scale() -> None:
    (edges, labels), rng = graphs(300, 0), np.random.default_rng(1)
    others = np.stack([1e4 + 1e3 * rng.random(300), np.full(300, 7.0)], axis=1)
    x = flat(edges, labels, others).astype(np.float32)
    y = truth(edges, labels) + others[:, :1] / 100
    found = small().fit(x[:200], y[:200]).predict(x[200:]).mean
    assert np.corrcoef(found[:, 0], y[200:, 0])[0, 1] > 0.9


def test_many_rows_are_predicted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    edges, labels = graphs(50, 0)
    x = flat(edges, labels)
    fitted = small(10).fit(x, truth(edges, labels))
    whole = fitted.predict(x)
    monkeypatch.setattr("predictors.graph.CHUNK", 7)
    np.testing.assert_allclose(fitted.predict(x).mean, whole.mean, rtol=1e-4, atol=1e-4)
    assert fitted.predict(x[:0]).mean.shape == (0, 2)
