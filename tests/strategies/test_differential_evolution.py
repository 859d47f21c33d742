"""Differential evolution: vectors, slots, and who replaces whom."""

from __future__ import annotations

import numpy as np
import pytest

from nas.core import Condition, Decision, Goals, SearchSpace, Trial
from nas.strategies import DifferentialEvolution

SPACE = SearchSpace(
    (
        *(Decision(f"d{i}", tuple(range(2 + i))) for i in range(6)),
        Decision("bits", (4, 8, 32)),
        Decision("grain", ("tensor", "channel"), Condition("bits", (4, 8)), ordered=False),
    )
)
ONE = Goals.parse(["loss:min"])


def members(strategy: DifferentialEvolution) -> dict[int, np.ndarray]:
    return {slot: member.vector for slot, member in strategy._members.items()}


def step(strategy: DifferentialEvolution, number: int, metrics: dict[str, float]) -> np.ndarray:
    """Ask and finish one trial; its row."""
    running = Trial(number, strategy.ask(1)[0])
    strategy.tell([running, running.completed(metrics)])
    assert running.candidate is not None
    return SPACE.row(running.candidate)


def test_vectors_stay_in_the_cube_and_round_to_their_candidates() -> None:
    strategy = DifferentialEvolution(SPACE, ONE, 0, population=6, scale=1.9)
    rng = np.random.default_rng(0)
    rows = [step(strategy, number, {"loss": float(rng.random())}) for number in range(80)]
    asked = {tuple(row) for row in rows}
    for vector in members(strategy).values():
        assert ((vector >= 0) & (vector <= 1)).all()
        assert tuple(strategy._rows(vector[None])[0]) in asked


def test_bins_have_equal_width() -> None:
    strategy = DifferentialEvolution(SPACE, ONE, 0)
    rows = strategy._rows(np.random.default_rng(1).random((40_000, len(SPACE))))
    for i in range(6):
        shares = np.bincount(rows[:, i]) / len(rows)
        assert shares == pytest.approx(np.full(2 + i, 1 / (2 + i)), abs=0.01)
    assert strategy._rows(np.ones((1, len(SPACE))))[0].tolist() == [1, 2, 3, 4, 5, 6, 2, -1]


def test_a_row_becomes_a_random_vector_of_that_row() -> None:
    strategy = DifferentialEvolution(SPACE, ONE, 0)
    for seed, row in enumerate(SPACE.sample(200, np.random.default_rng(2))):
        vector = strategy._vector(row, np.random.default_rng(seed))
        assert np.array_equal(strategy._rows(vector[None])[0], row)


def test_a_child_takes_its_parents_place_if_it_is_not_worse() -> None:
    strategy = DifferentialEvolution(SPACE, ONE, 4, population=5)
    for number in range(5):
        step(strategy, number, {"loss": 1.0})
    before = members(strategy)
    step(strategy, 5, {"loss": 2.0})
    assert members(strategy)[0] is before[0]
    step(strategy, 6, {"loss": 1.0})
    assert members(strategy)[1] is not before[1]
    running = Trial(7, strategy.ask(1)[0])
    strategy.tell([running, running.failed("broken")])
    assert members(strategy)[2] is before[2]


def test_constraints_come_before_the_loss() -> None:
    strategy = DifferentialEvolution(SPACE, Goals.parse(["loss:min"], ["size<=1"]), 4, population=4)
    for number in range(4):
        step(strategy, number, {"loss": 1.0, "size": 2.0})
    before = members(strategy)
    for slot, (loss, size, stays) in enumerate(
        [(0.0, 3.0, True), (9.0, 1.5, False), (9.0, 1.0, False), (0.5, 2.0, False)]
    ):
        step(strategy, 4 + slot, {"loss": loss, "size": size})
        assert (members(strategy)[slot] is before[slot]) is stays


def test_of_two_incomparable_the_less_crowded_lives() -> None:
    strategy = DifferentialEvolution(SPACE, Goals.parse(["a:min", "b:min"]), 0, population=4)
    for number, a in enumerate([0.0, 0.6, 0.9, 1.0]):
        step(strategy, number, {"a": a, "b": 1 - a})
    before = members(strategy)
    step(strategy, 4, {"a": 0.95, "b": 0.05})
    assert members(strategy)[0] is before[0]
    for number in (5, 6):
        step(strategy, number, {"a": 2.0, "b": 2.0})
    step(strategy, 7, {"a": 0.25, "b": 0.75})
    assert members(strategy)[3] is before[3]
    step(strategy, 8, {"a": 3.0, "b": 3.0})
    step(strategy, 9, {"a": 3.0, "b": 3.0})
    step(strategy, 10, {"a": 0.25, "b": 0.75})
    assert members(strategy)[2] is not before[2]


def test_the_best_recalled_fill_the_slots() -> None:
    rng = np.random.default_rng(3)
    known = [
        Trial(i, task).completed({"loss": float(i)})
        for i, task in enumerate(DifferentialEvolution(SPACE, ONE, 9).ask(12))
    ]
    rng.shuffle(known)  # type: ignore[arg-type]
    strategy = DifferentialEvolution(SPACE, ONE, 0, population=5)
    strategy.recall(known)
    assert sorted(m.losses[0] for m in strategy._members.values()) == [0, 1, 2, 3, 4]
    step(strategy, 0, {"loss": -1.0})
    assert strategy._members[0].losses[0] == -1.0
