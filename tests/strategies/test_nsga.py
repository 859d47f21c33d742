"""NSGA-II and NSGA-III: who survives."""

from __future__ import annotations

import numpy as np
import pytest

from nas.core import Decision, Goals, SearchSpace, Trial, non_dominated
from nas.strategies import NSGA2, NSGA3

SPACE = SearchSpace(tuple(Decision(f"d{i}", tuple(range(6))) for i in range(6)))
Kind = type[NSGA2] | type[NSGA3]


def told(strategy: NSGA2 | NSGA3, metrics: list[dict[str, float]]) -> list[tuple[int, ...]]:
    """Finish one trial per mapping; the rows asked."""
    rows = []
    for number, found in enumerate(metrics):
        running = Trial(number, strategy.ask(1)[0])
        strategy.tell([running, running.completed(found)])
        assert running.candidate is not None
        rows.append(tuple(SPACE.row(running.candidate).tolist()))
    return rows


def living(strategy: NSGA2 | NSGA3, rows: list[tuple[int, ...]]) -> list[int]:
    return sorted(rows.index(tuple(row)) for row in strategy.alive.tolist())


@pytest.mark.parametrize("kind", [NSGA2, NSGA3])
def test_dominated_candidates_die_first(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    points = rng.random((30, 3))
    strategy = kind(SPACE, Goals.parse(["a:min", "b:min", "c:min"]), 0, population=20)
    rows = told(strategy, [dict(zip("abc", p.tolist(), strict=True)) for p in points])
    alive = living(strategy, rows)
    front = np.flatnonzero(non_dominated(points))
    assert len(alive) == 20
    assert len(front) <= 20 and set(front) <= set(alive)


@pytest.mark.parametrize("kind", [NSGA2, NSGA3])
def test_with_one_objective_the_best_live(kind: Kind) -> None:
    losses = np.random.default_rng(1).permutation(25).astype(float)
    strategy = kind(SPACE, Goals.parse(["loss:min"]), 0, population=6)
    rows = told(strategy, [{"loss": x} for x in losses.tolist()])
    assert living(strategy, rows) == sorted(np.argsort(losses)[:6].tolist())


@pytest.mark.parametrize("kind", [NSGA2, NSGA3])
def test_the_infeasible_die_first_and_the_most_wrong_of_them(kind: Kind) -> None:
    goals = Goals.parse(["a:min", "b:min"], ["size<=1"])
    sizes = [3.0, 1.5, 0.5, 2.0, 0.9, 4.0, 1.2]
    strategy = kind(SPACE, goals, 0, population=4)
    rows = told(strategy, [{"a": 1.0 - s, "b": 1.0 - s, "size": s} for s in sizes])
    assert living(strategy, rows) == [1, 2, 4, 6]


def test_the_most_crowded_of_the_front_dies() -> None:
    strategy = NSGA2(SPACE, Goals.parse(["a:min", "b:min"]), 0, population=4)
    rows = told(strategy, [{"a": a, "b": 1 - a} for a in (0.0, 0.3, 0.35, 1.0, 0.7)])
    assert living(strategy, rows) in ([0, 1, 3, 4], [0, 2, 3, 4])


def test_directions_without_a_candidate_are_filled_first() -> None:
    strategy = NSGA3(SPACE, Goals.parse(["a:min", "b:min"]), 0, population=3)
    around = [0.0, 0.02, 1.0, 0.04, 0.5]
    rows = told(strategy, [{"a": a, "b": 1 - a} for a in around])
    alive = living(strategy, rows)
    assert 4 in alive and 2 in alive and 0 in alive


@pytest.mark.parametrize("kind", [NSGA2, NSGA3])
def test_failed_and_incomplete_trials_are_never_parents(kind: Kind) -> None:
    strategy = kind(SPACE, Goals.parse(["a:min", "b:min"]), 0, population=4)
    for number in range(8):
        running = Trial(number, strategy.ask(1)[0])
        bad = running.failed("broken") if number % 2 else running.completed({"a": 1.0})
        strategy.tell([running, bad])
    assert not len(strategy.alive)
    assert strategy.ask(1)


@pytest.mark.parametrize("kind", [NSGA2, NSGA3])
def test_children_come_from_the_living(kind: Kind) -> None:
    goals = Goals.parse(["a:min", "b:min"])
    strategy = kind(SPACE, goals, 0, population=5, mutation=0.0)
    told(strategy, [{"a": float(i % 3), "b": float(-i)} for i in range(20)])
    alive = strategy.alive
    for task in strategy.ask(10):
        row = SPACE.row(task.candidate)  # type: ignore[union-attr]
        foreign = [not (alive[:, i] == row[i]).any() for i in range(len(SPACE))]
        assert sum(foreign) <= 1
