from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.core import Cell, Condition, ConflictError, Decision, SearchSpace, UnknownNameError
from nas.core.cell_features import graph_features
from nas.core.graphs import cell_graphs
from predictors.encoders import encode, feature_names, with_costs
from predictors.gbdt import GradientBoostedTrees
from predictors.importance import decision_importance
from predictors.registry import DEFAULT, predictor
from predictors.validation import cross_validate, kendall_tau
from searchspaces.tabular import tabular_benchmark

SPACE = SearchSpace(
    (
        Decision("width", (8, 16, 32)),
        Decision("op", ("conv", "pool"), ordered=False),
        Decision("kernel", (3, 5), Condition("op", ("conv",))),
    )
)


def test_encoding_tells_all_candidates_apart() -> None:
    rows = np.unique(SPACE.sample(500, np.random.default_rng(0)), axis=0)
    features = encode(SPACE, rows)
    assert features.shape == (SPACE.size, len(feature_names(SPACE)))
    assert len(np.unique(features, axis=0)) == SPACE.size
    assert feature_names(SPACE) == ["width", "op=conv", "op=pool", "kernel"]


def test_costs_are_appended_as_logarithms() -> None:
    rows = SPACE.sample(5, np.random.default_rng(0))
    features = with_costs(SPACE, lambda r: {"macs": r[:, 0].astype(float)})(rows)
    np.testing.assert_allclose(features[:, -1], np.log1p(rows[:, 0]), rtol=1e-6)


def cell_space() -> SearchSpace:
    cell = Cell(("a", "b"), ("01", "02", "03", "12", "13", "23"))
    return SearchSpace(
        (
            Decision("width", (1, 2, 3)),
            *(Decision(edge, (False, True), ordered=False) for edge in cell.edges),
            *(Decision(vertex, ("conv", "pool"), ordered=False) for vertex in cell.operators),
        ),
        cell,
    )


def test_cells_are_described_by_their_structure_and_the_rest_as_ever() -> None:
    space = cell_space()
    rows = space.sample(50, np.random.default_rng(0))
    features = with_costs(space, lambda r: {})(rows)
    np.testing.assert_array_equal(features[:, 0], rows[:, 0] / 2)
    structure = np.stack(list(graph_features(cell_graphs(space, rows)).values()), axis=1)
    np.testing.assert_allclose(features[:, 1:], np.log1p(structure), rtol=1e-6)


def test_decisions_that_costs_describe_get_no_columns() -> None:
    rows = SPACE.sample(5, np.random.default_rng(0))
    features = with_costs(SPACE, lambda r: {"macs": r[:, 0].astype(float)}, ("op", "kernel"))
    np.testing.assert_allclose(features(rows)[:, 0], rows[:, 0] / 2)
    assert features(rows).shape == (5, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'width'"):
        with_costs(SPACE, lambda r: {}, ("widht",))


def test_structure_ranks_cells_from_few_rows_better_than_options_do(data_folder: Path) -> None:
    for name in ("nasbench201", "nasbench101"):
        if not (data_folder / f"{name}.npz").is_file():
            pytest.skip(f"needs {name}.npz")
        table = tabular_benchmark(name, data_folder)
        described = with_costs(table.space, table.descriptors, table.described)
        gains = []
        for seed in range(3):
            picked = np.random.default_rng(seed).choice(len(table.genotypes), 550, replace=False)
            rows = table.genotypes[picked]
            y = table.columns["cifar10_test_accuracy"][picked, None]
            taus = []
            for x in (described(rows), encode(table.space, rows)):
                found = predictor(DEFAULT, seed).fit(x[:50], y[:50]).predict(x[50:])
                taus.append(kendall_tau(found.mean[:, 0], y[50:, 0]))
            gains.append(taus[0] - taus[1])
        assert np.mean(gains) > 0.1, name


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6), dtype=np.float32)
    y = np.stack([3 * x[:, 0] + x[:, 1] * x[:, 2], 1000 * x[:, 3] + 5], axis=1)
    return x, y.astype(np.float64)


def test_trees_learn_several_targets_of_any_scale() -> None:
    (x, y), (x_new, y_new) = data(300, 0), data(200, 1)
    found = GradientBoostedTrees().fit(x, y).predict(x_new)
    assert found.mean.shape == found.std.shape == (200, 2)
    for j in range(2):
        assert np.corrcoef(found.mean[:, j], y_new[:, j])[0, 1] > 0.95


def test_uncertainty_is_larger_where_there_are_no_data() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 3), dtype=np.float32) * 0.5
    y = np.sin(20 * x.sum(axis=1, keepdims=True).astype(np.float64))
    trees = GradientBoostedTrees(n_members=8).fit(x, y)
    assert trees.predict(x + 0.5).std.mean() > trees.predict(x).std.mean()


def test_fit_forgets_and_unfitted_is_refused() -> None:
    with pytest.raises(ConflictError, match="fit first"):
        GradientBoostedTrees().predict(np.zeros((1, 6), dtype=np.float32))
    (x, y), (x2, y2) = data(60, 0), data(60, 9)
    again = GradientBoostedTrees().fit(x2, -y2).fit(x, y).predict(x)
    np.testing.assert_array_equal(again.mean, GradientBoostedTrees().fit(x, y).predict(x).mean)


def test_too_few_rows_give_the_mean_and_the_spread() -> None:
    x, y = data(3, 0)
    found = GradientBoostedTrees().fit(x, y).predict(x[:1])
    np.testing.assert_allclose(found.mean[0], y.mean(axis=0))
    np.testing.assert_allclose(found.std[0], y.std(axis=0))


def test_importance_finds_the_decision_that_matters() -> None:
    rows = SPACE.sample(200, np.random.default_rng(0))
    y = rows[:, 0] * 5.0 + np.random.default_rng(1).normal(0, 0.1, 200)
    shares = decision_importance(SPACE, rows, y)
    assert next(iter(shares)) == "width"
    assert shares["width"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)
    assert decision_importance(SPACE, rows, np.ones(200)) == {}


def test_cross_validation_predicts_only_unseen_rows() -> None:
    x, y = data(150, 0)
    assert cross_validate(GradientBoostedTrees, x, y[:, 0]).tau > 0.7
    noise = np.random.default_rng(5).normal(size=150)
    assert abs(cross_validate(GradientBoostedTrees, x, noise).tau) < 0.3
