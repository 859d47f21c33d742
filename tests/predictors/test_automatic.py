from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from nas.core import Prediction, Predictor
from predictors.automatic import AutomaticPredictor
from predictors.registry import CANDIDATES, predictor
from predictors.validation import kendall_tau


class Column(Predictor):
    """A column of the features, times a factor; counts its fits."""

    fits = 0

    def __init__(self, column: int, factor: float = 1.0) -> None:
        self.column, self.factor = column, factor

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        Column.fits += 1
        self.n_targets = y.shape[1]
        return self

    def predict(self, x: np.ndarray) -> Prediction:
        mean = np.repeat(self.factor * x[:, [self.column]].astype(np.float64), self.n_targets, 1)
        return Prediction(mean, np.zeros_like(mean))


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first target is column 0, the second column 1."""
    x = np.random.default_rng(0).random((n, 3), dtype=np.float32)
    return x, x[:, :2].astype(np.float64)


def members() -> dict[str, Callable[[], Predictor]]:
    return {name: lambda i=i: Column(i) for i, name in enumerate(("first", "second", "third"))}


def test_the_obviously_better_one_is_chosen_for_each_target() -> None:
    x, y = data(60)
    automatic = AutomaticPredictor(members()).fit(x, y)
    assert automatic.chosen == (("first",), ("second",))
    assert automatic.taus["first"][0] == pytest.approx(1.0)
    assert abs(automatic.taus["third"][0]) < 0.4
    np.testing.assert_allclose(automatic.predict(x).mean, y)


def test_near_best_members_are_averaged_and_their_disagreement_counts() -> None:
    x, y = data(60)
    both = {"one": lambda: Column(0), "three": lambda: Column(0, 3.0), "other": lambda: Column(2)}
    automatic = AutomaticPredictor(both).fit(x, y[:, :1])
    assert automatic.chosen == (("one", "three"),)
    found = automatic.predict(x)
    np.testing.assert_allclose(found.mean, 2 * y[:, :1])
    np.testing.assert_allclose(found.std, y[:, :1], rtol=1e-6)


@pytest.mark.parametrize("n", [0, 3, 15])
def test_too_few_rows_take_the_first(n: int) -> None:
    automatic = AutomaticPredictor(members()).fit(*data(n))
    assert automatic.chosen == (("first",), ("first",))
    assert automatic.taus == {}


def test_a_target_that_never_varies_takes_the_first() -> None:
    x, y = data(40)
    y[:, 1] = 5.0
    assert AutomaticPredictor(members()).fit(x, y).chosen == (("first",), ("first",))


def test_it_chooses_anew_only_when_the_table_has_grown() -> None:
    x, y = data(60)
    automatic = AutomaticPredictor(members())
    costs = []
    for n in (40, 41, 48, 49, 60):
        before = Column.fits
        automatic.fit(x[:n], y[:n])
        costs.append(Column.fits - before)
    assert costs == [17, 2, 2, 17, 2]  # steps at 16, 20, 25, 31, 39, 49, 61 rows


def test_a_fresh_one_chooses_as_one_that_saw_the_table_grow() -> None:
    x, y = data(60)
    y = y + np.random.default_rng(1).normal(0, 2.0, y.shape)
    grown = AutomaticPredictor(members())
    for n in range(10, 61):
        grown.fit(x[:n], y[:n])
    fresh = AutomaticPredictor(members()).fit(x, y)
    assert grown.taus == fresh.taus
    np.testing.assert_array_equal(grown.predict(x).mean, fresh.predict(x).mean)


def test_on_a_benchmark_it_ranks_about_as_well_as_the_best_member(data_folder: Path) -> None:
    file = data_folder / "nasbench201.npz"
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    table = np.load(file)
    x = np.eye(5, dtype=np.float32)[table["edge_ops"]].reshape(-1, 30)
    y = np.stack([table["cifar10_test_accuracy"], table["latency_ms_raspi4"]], axis=1)
    order = np.random.default_rng(0).permutation(len(x))
    known, test = order[:50], order[-1000:]

    def taus(name: str) -> list[float]:
        found = predictor(name, 0).fit(x[known], y[known].astype(np.float64)).predict(x[test])
        return [kendall_tau(found.mean[:, j], y[test, j]) for j in range(2)]

    best = np.max([taus(name) for name in CANDIDATES], axis=0)
    assert (np.array(taus("automatic")) > best - 0.05).all()
