"""Local search: the neighbourhood first, then another climb."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.core import Decision, Goals, SearchSpace, SearchStrategy, Trial
from nas.strategies import LocalSearch

SPACE = SearchSpace(tuple(Decision(f"d{i}", (0, 1, 2, 3)) for i in range(4)))
GOALS = Goals.parse(["loss:min"])
Metrics = Callable[[np.ndarray], dict[str, float]]


def walk(strategy: SearchStrategy, score: Metrics, n: int) -> list[np.ndarray]:
    """Rows asked one by one."""
    rows = []
    for number in range(n):
        running = Trial(number, strategy.ask(1)[0])
        assert running.candidate is not None
        rows.append(SPACE.row(running.candidate))
        strategy.tell([running, running.completed(score(rows[-1]))])
    return rows


def distances(rows: Sequence[np.ndarray], centre: np.ndarray) -> list[int]:
    return [int((row != centre).sum()) for row in rows]


def test_a_better_neighbour_is_the_next_centre() -> None:
    rows = walk(LocalSearch(SPACE, GOALS, 0, n_initial=1), lambda r: {"loss": float(r.sum())}, 40)
    best = rows[0]
    for row in rows[1:]:
        if best.sum() == 0:
            break
        assert (row != best).sum() == 1
        if row.sum() < best.sum():
            best = row
    assert best.sum() == 0


def test_an_exhausted_neighbourhood_starts_the_next_climb() -> None:
    centre = walk(LocalSearch(SPACE, GOALS, 0, n_initial=2), lambda _: {"loss": 0.0}, 1)[0]

    def score(row: np.ndarray) -> dict[str, float]:
        return {"loss": float((row != centre).any()) * (1 + row.sum() % 3)}

    rows = walk(LocalSearch(SPACE, GOALS, 0, n_initial=2), score, 40)
    n_around = len(SPACE.neighbours(centre))
    first_climb = rows[2 : 2 + n_around]
    if (rows[1] != centre).sum() == 1:
        first_climb = first_climb[:-1]
    assert set(distances(first_climb, centre)) == {1}
    rest = rows[2 + len(first_climb) :]
    assert 1 not in distances(rest, centre)
    start = min(rest[:2], key=lambda r: score(r)["loss"])
    assert distances(rest[2:4], start)[0] == 1


def test_a_late_better_neighbour_is_followed_up_after_the_next_climb_began() -> None:
    space = SearchSpace((Decision("a", (0, 1, 2)), Decision("b", (0, 1, 2))))
    strategy = LocalSearch(space, GOALS, 3, n_initial=1)
    first = Trial(0, strategy.ask(1)[0])
    strategy.tell([first, first.completed({"loss": 5.0})])
    around = []
    for number in range(1, 5):
        around.append(Trial(number, strategy.ask(1)[0]))
        strategy.tell([around[-1]])
    strategy.tell([t.completed({"loss": 9.0}) for t in around[:-1]])
    restart = Trial(5, strategy.ask(1)[0])
    strategy.tell([restart, around[-1].completed({"loss": 1.0})])
    task = strategy.ask(1)[0]
    assert around[-1].candidate is not None
    moved = space.row(task.candidate) != space.row(around[-1].candidate)  # type: ignore[union-attr]
    assert moved.sum() == 1


def test_several_objectives_walk_along_the_front() -> None:
    goals = Goals.parse(["low:min", "high:max"])

    def score(row: np.ndarray) -> dict[str, float]:
        return {"low": float(row[0] + row[2]), "high": float(row[0] + row[1])}

    rows = walk(LocalSearch(SPACE, goals, 1, n_initial=4), score, 60)
    found = {(score(r)["low"], score(r)["high"]) for r in rows}
    assert {(float(i), float(i + 3)) for i in range(4)} <= found


def test_infeasible_candidates_lead_towards_the_constraint() -> None:
    goals = Goals.parse(["loss:min"], ["size<=1"])

    def score(row: np.ndarray) -> dict[str, float]:
        return {"loss": -float(row.sum()), "size": float(row.sum())}

    rows = walk(LocalSearch(SPACE, goals, 5, n_initial=2), score, 60)
    assert rows[0].sum() > 1 and rows[1].sum() > 1
    assert min(r.sum() for r in rows) <= 1
