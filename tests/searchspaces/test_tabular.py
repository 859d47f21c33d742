from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.core import Decision, InvalidInputError, SearchSpace, UnknownNameError
from nas.core.cell_features import graph_features
from nas.core.graphs import cell_graphs
from searchspaces.tabular import TabularBenchmark, read_table, tabular_benchmark, write_table


def needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        pytest.skip(f"needs {name}")
    return folder


@pytest.fixture(scope="session")
def bench201(data_folder: Path) -> TabularBenchmark:
    return tabular_benchmark("nasbench201", needed(data_folder, "nasbench201.npz"))


@pytest.fixture(scope="session")
def bench101(data_folder: Path) -> TabularBenchmark:
    return tabular_benchmark("nasbench101", needed(data_folder, "nasbench101.npz"))


def test_nasbench201_holds_what_was_published(bench201: TabularBenchmark) -> None:
    assert bench201.space.size == len(bench201.genotypes) == 15_625
    best = int(np.argmax(bench201.columns["cifar10_test_accuracy"]))
    assert best == 6111
    row = bench201.genotypes[best]
    found = bench201.lookup(row[None])
    assert found["cifar10_test_accuracy"][0] == pytest.approx(94.373, abs=1e-3)
    assert bench201.space.candidate(row).values["0>3"] == "skip_connect"
    assert len([m for m in bench201.metrics if m.startswith("latency_ms_")]) == 10
    assert all(np.isfinite(v).all() for v in bench201.columns.values())


def test_nasbench201_structure_ignores_what_does_not_reach_the_output(
    bench201: TabularBenchmark,
) -> None:
    space = bench201.space
    conv, none, skip = "nor_conv_3x3", "none", "skip_connect"
    one = {"0>1": conv, "0>2": none, "1>2": conv, "0>3": skip, "1>3": none, "2>3": none}
    other = {**one, "0>1": none, "1>2": skip}  # nothing but the skip reaches node 3 in either
    rows = np.stack([space.row(one), space.row(other)])
    for name, values in bench201.describe(rows).items():
        assert values[0] == values[1] or name.startswith("written"), name
    longer = space.row({**one, "2>3": conv})
    described = {name: values[0] for name, values in bench201.describe(longer[None]).items()}
    assert described["ways"] == 2 and described["n nor_conv_3x3"] == 3
    assert described["most operators on a way"] == 3
    assert described["edges input > output"] == 1  # the skip


def test_nasbench201_structure_is_that_of_the_graph(bench201: TabularBenchmark) -> None:
    rows = bench201.genotypes[bench201.genotypes[:, 2] == 0]  # nothing from node 1 to node 2
    swapped = rows[:, [1, 0, 2, 3, 5, 4]]
    other = bench201.describe(swapped)
    for name, values in bench201.describe(rows).items():
        np.testing.assert_allclose(values, other[name], rtol=1e-12, err_msg=name)


def test_nasbench101_merges_isomorphic_cells(bench101: TabularBenchmark) -> None:
    assert len(np.unique(bench101.space.keys(bench101.genotypes))) == 423_624
    assert bench101.columns["cifar10_test_accuracy"].max() == pytest.approx(0.94318, abs=1e-5)
    rng = np.random.default_rng(0)
    rows = bench101.genotypes[rng.choice(len(bench101.genotypes), 500, replace=False)]
    children = bench101.space.mutate(rows, rng)
    known = bench101.known(children)
    assert 0.3 < known.mean() < 1.0  # nine edges at most
    assert np.isnan(bench101.lookup(children[~known])["params"]).all()
    described = graph_features(cell_graphs(bench101.space, rows))
    assert all(v.shape == (500,) and np.isfinite(v).all() for v in described.values())
    # parameters follow the structure: more 3x3 convolutions, more parameters
    params = bench101.lookup(rows)["params"]
    assert np.corrcoef(described["n conv3x3"], params)[0, 1] > 0.3


def test_a_table_of_ones_own_is_read_back_as_written(tmp_path: Path) -> None:
    space = SearchSpace(
        (Decision("width", (8, 16, 32)), Decision("act", ("a", "b"), ordered=False))
    )
    rows = space.rows()
    columns = {"accuracy": np.linspace(0, 1, 6), "params": np.arange(6.0)}
    write_table(tmp_path / "t.npz", space, rows, columns, free=("params",))
    table = tabular_benchmark(f"table:{tmp_path / 't.npz'}", tmp_path)
    assert table.space.names == space.names and table.space.size == 6
    assert [d.ordered for d in table.space.decisions] == [True, False]
    assert (table.lookup(table.genotypes)["accuracy"] == columns["accuracy"]).all()
    assert set(table.costs(table.genotypes)) == {"params"}


def test_absent_decisions_and_missing_rows_are_understood(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "t.npz",
        genotypes=np.array([[0, -1], [1, 0], [1, 1]]),
        decisions=np.array(["depth", "kernel"]),
        loss=np.array([3.0, 2.0, 1.0]),
    )
    table = read_table(tmp_path / "t.npz")
    assert table.space.decisions[1].options == ("none", 0, 1)
    everything = table.space.rows()
    assert table.known(everything).sum() == 3 < len(everything)
    assert np.isnan(table.lookup(everything)["loss"]).sum() == len(everything) - 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"genotypes": None}, "an array genotypes"),
        ({"genotypes": np.zeros(3, dtype=int)}, r"shape \(n, d\)"),
        ({"genotypes": np.zeros((3, 2))}, "whole numbers"),
        ({"genotypes": np.zeros((3, 2), dtype=int)}, "each candidate only once"),
        ({"genotypes": np.array([[0, 0], [0, -2], [1, 1]])}, "option indices"),
        ({"decisions": np.array(["a"])}, "2 names"),
        ({"loss": np.zeros(2)}, r"shape \(3,\)"),
        ({"loss": np.array([0.0, np.nan, 1.0])}, "finite numbers"),
        ({"loss": np.array(["a", "b", "c"])}, "numbers"),
        ({"loss": None}, "at least one metric"),
        ({"free": np.array(["cost"])}, "loss"),
        ({"ordered": np.array([True])}, "ordered"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(
    tmp_path: Path, arrays: dict[str, np.ndarray | None], message: str
) -> None:
    good = {
        "genotypes": np.array([[0, 0], [0, 1], [1, 1]]),
        "decisions": np.array(["a", "b"]),
        "loss": np.array([3.0, 2.0, 1.0]),
    }
    content = {k: v for k, v in {**good, **arrays}.items() if v is not None}
    np.savez(tmp_path / "t.npz", **content)
    with pytest.raises(InvalidInputError, match=message):
        read_table(tmp_path / "t.npz")


def test_unknown_and_missing_spaces_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="nasbench201"):
        tabular_benchmark("nasbench301", tmp_path)
    with pytest.raises(InvalidInputError, match="a file that exists"):
        tabular_benchmark("nasbench201", tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(InvalidInputError, match="npz file"):
        tabular_benchmark(f"table:{tmp_path / 'broken.npz'}", tmp_path)
