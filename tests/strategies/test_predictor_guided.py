"""What predictor-guided search asks of its predictor."""

from __future__ import annotations

from typing import Self

import numpy as np
import pytest

from nas.core import Decision, Evaluate, Goals, Prediction, Predictor, SearchSpace, Trial
from nas.core.pareto import ranks
from nas.strategies import PredictorGuided
from nas.strategies._crowding import best_first, crowding
from nas.strategies.predictor_guided import LARGE_POOL

SPACE = SearchSpace(tuple(Decision(f"w{i}", (0, 1, 2, 3)) for i in range(12)))
GOALS = {
    "one": Goals.parse(["accuracy:max"]),
    "two": Goals.parse(["accuracy:max", "bytes:min"]),
}


class Coarse(Predictor):
    """Knows the sum of the features, of many rows only roughly."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        return self

    def predict(self, x: np.ndarray) -> Prediction:
        self.asked.append(len(x))
        true = x.sum(axis=1, dtype=np.float64)[:, None]
        mean = true.round() if len(x) > LARGE_POOL else true
        return Prediction(mean, np.zeros_like(mean))


def features(rows: np.ndarray) -> np.ndarray:
    """One column whose value no two rows share."""
    return (rows @ 4.0 ** -np.arange(12.0))[:, None].astype(np.float32)


def size(rows: np.ndarray) -> dict[str, np.ndarray]:
    return {"bytes": rows.sum(axis=1).astype(np.float64)}


@pytest.mark.parametrize("goals", GOALS)
def test_of_a_large_pool_the_most_promising_are_predicted_again(goals: str) -> None:
    predictor = Coarse()
    search = PredictorGuided(
        SPACE,
        GOALS[goals],
        0,
        predictor,
        features,
        size if goals == "two" else lambda _: {},
        n_initial=4,
        pool=100_000,
        generations=1,
    )
    for number in range(5):
        (task,) = search.ask(1)
        assert isinstance(task, Evaluate)
        row = SPACE.row(task.candidate)
        trial = Trial(number, task)
        found = {"accuracy": float(features(row[None])[0, 0]), "bytes": float(row.sum())}
        search.tell([trial, trial.completed(found)])
    many, few = predictor.asked[-2:]
    assert many > LARGE_POOL > few
    if goals == "one":  # the roughly best are thousands; only the exact answer tells the best
        assert row[:5].tolist() == [3] * 5


@pytest.mark.parametrize("m", [1, 2])
def test_order_is_by_rank_then_by_distance_to_neighbours(m: int) -> None:
    losses = np.random.default_rng(m).integers(12, size=(80, m)).astype(np.float64)
    rank = ranks(losses)
    distance = np.empty(80)
    for value in np.unique(rank):
        distance[rank == value] = crowding(losses[rank == value])
    found = best_first(losses, np.zeros(80))
    assert found.tolist() == sorted(range(80), key=lambda i: (rank[i], -distance[i]))
