"""Predictors by name, each with the features it learns from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nas.benchmarks.runs import learner_of
from nas.core import Cell, Decision, InvalidInputError, Learner, SearchSpace, UnknownNameError
from nas.core.graphs import cell_graphs
from predictors.encoders import one_hot, with_costs
from predictors.gaussian_process import GaussianProcess
from predictors.learners import LEARNERS, learner
from predictors.validation import kendall_tau
from searchspaces.tabular import tabular_benchmark

CELL = Cell(("a", "b"), ("01", "02", "03", "12", "13", "23"))
SPACE = SearchSpace(
    (
        Decision("width", (1, 2, 3)),
        *(Decision(edge, (False, True), ordered=False) for edge in CELL.edges),
        *(Decision(vertex, ("conv", "pool"), ordered=False) for vertex in CELL.operators),
    ),
    CELL,
)


def sizes(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"size": 8.0 + 8.0 * rows[:, 0]}


def ranked(found: Learner, rows: np.ndarray, y: np.ndarray, n: int) -> float:
    """Kendall's tau of the rows after the first `n`, from which it learns."""
    x = found.featurize(rows)
    fitted = found.predictor().fit(x[:n], y[:n, None])
    return kendall_tau(fitted.predict(x[n:]).mean[:, 0], y[n:])


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_cells_and_what_is_beside_them(name: str) -> None:
    rows = SPACE.sample(120, np.random.default_rng(0))
    convolutions = (rows[:, -2:] == 0).sum(axis=1)
    assert ranked(learner(name, 1, SPACE, sizes), rows, convolutions + 2.0 * rows[:, 0], 60) > 0.5


def test_a_fresh_predictor_is_made_each_time() -> None:
    found = learner("gbdt", 0, SPACE, sizes)
    assert found.predictor() is not found.predictor()


def test_a_graph_network_sees_graphs_and_what_others_see() -> None:
    rows = SPACE.sample(7, np.random.default_rng(0))
    x = learner("graph", 0, SPACE, sizes).featurize(rows)
    graphs, others = cell_graphs(SPACE, rows), with_costs(SPACE, sizes)(rows)
    np.testing.assert_array_equal(x[:, :16].reshape(7, 4, 4), graphs.edges)
    np.testing.assert_array_equal(x[:, 16:32].reshape(7, 4, 4), graphs.labels)
    np.testing.assert_array_equal(x[:, 32:], others)
    assert x.dtype == np.float32


def test_stacked_processes_see_the_structure_of_cells_and_their_options() -> None:
    rows = SPACE.sample(7, np.random.default_rng(0))
    found = learner("gaussian-process-stacked", 0, SPACE, sizes)
    x, structure = found.featurize(rows), with_costs(SPACE, sizes)(rows)
    first, second = found.predictor().views  # type: ignore[attr-defined]
    np.testing.assert_array_equal(x[:, first], structure)
    np.testing.assert_array_equal(x[:, second], one_hot(SPACE, rows)[:, 3:])


def test_without_cells_there_is_nothing_to_stack() -> None:
    plain = SearchSpace((Decision("width", (8, 16)),))
    found = learner("gaussian-process-stacked", 0, plain, sizes)
    assert isinstance(found.predictor(), GaussianProcess)


def test_a_graph_network_is_refused_where_there_are_no_graphs() -> None:
    plain = SearchSpace((Decision("width", (8, 16)),))
    with pytest.raises(InvalidInputError, match=r"cells.*use one of gbdt") as raised:
        learner("graph", 0, plain, sizes)
    assert raised.value.field == "strategy.options.predictor"


def test_unknown_names_are_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'graph'.* gbdt"):
        learner("grahp", 0, SPACE, sizes)


@pytest.mark.parametrize(("name", "least"), [("nasbench201", 0.75), ("nasbench101", 0.6)])
def test_a_graph_network_ranks_published_cells(name: str, least: float, data_folder: Path) -> None:
    if not (data_folder / f"{name}.npz").is_file():
        pytest.skip(f"needs {name}.npz")
    table = tabular_benchmark(name, data_folder)
    drawn = np.random.default_rng(0).choice(len(table.genotypes), 600, replace=False)
    y = table.columns["cifar10_test_accuracy"][drawn]
    assert ranked(learner_of(table, 0, "graph"), table.genotypes[drawn], y, 100) > least


def test_learners_are_known_without_importing_torch() -> None:
    program = (
        "import sys, predictors.learners as learners\n"
        "from nas.core import Decision, SearchSpace\n"
        "space = SearchSpace((Decision('width', (8, 16)),))\n"
        "learners.learner('gbdt', 0, space, lambda rows: {}).predictor()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
