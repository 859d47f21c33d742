"""Options that only do harm are left out, as long as they do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nas.core import Decision, Evaluate, Goals, Learner, SearchSpace, Trial
from nas.strategies import SearchContext, make_strategy
from nas.strategies._narrowing import FIRST, Narrowed, judged_by
from predictors.encoders import encode
from predictors.gaussian_process import GaussianProcess
from predictors.narrowing import flags, harmful_options

SPACE = SearchSpace(tuple(Decision(f"d{i}", (0, 1, 2, 3)) for i in range(9)))
GOALS = Goals.parse(["accuracy:max"], [])


def harmful(rows: np.ndarray, losses: np.ndarray) -> np.ndarray:
    return flags(SPACE, harmful_options(SPACE, rows, losses))


def accuracy(row: np.ndarray) -> float:
    return float(0.9 - 0.1 * (row[0] == 0) - 0.1 * (row[1] == 3) + 0.01 * row[2:].sum() / 21)


def gaussian_process() -> GaussianProcess:
    return GaussianProcess(max_tuning_rows=40)


Contexts = Callable[..., SearchContext]


def searched(context_of: Contexts, n: int, narrowing: int) -> np.ndarray:
    learner = Learner(partial(encode, SPACE), gaussian_process)
    context = context_of(SPACE, GOALS, n_trials=n, learner=lambda _: learner, narrow=harmful)
    strategy = make_strategy(
        "predictor-guided", context, {"narrowing": narrowing, "pool": 300, "beta": 20.0}
    )
    rows = []
    for number in range(n):
        (task,) = strategy.ask(1)
        assert isinstance(task, Evaluate)
        trial = Trial(number, task)
        strategy.tell([trial])
        row = SPACE.row(task.candidate)
        strategy.tell([trial.completed({"accuracy": accuracy(row)})])
        rows.append(row)
    return np.stack(rows)


def test_a_curious_search_keeps_away_from_what_only_does_harm(context_of: Contexts) -> None:
    def bad(rows: np.ndarray) -> int:
        late = rows[FIRST:]
        return int(((late[:, 0] == 0) | (late[:, 1] == 3)).sum())

    assert bad(searched(context_of, 44, 1)) < bad(searched(context_of, 44, 0)) / 2


def test_an_option_of_the_best_so_far_and_one_judged_anew_come_back() -> None:
    judged = []

    def narrow(rows: np.ndarray, losses: np.ndarray) -> np.ndarray:
        judged.append(len(rows))
        marked = np.zeros((9, 4), dtype=bool)
        marked[0, :2] = len(rows) == FIRST
        return marked

    narrowed = Narrowed(SPACE, narrow)
    rows = SPACE.sample(60, np.random.default_rng(0))
    losses, met = np.arange(60.0)[:, None], np.zeros(60)
    rows[0, 0] = 1
    early = narrowed.keeps(rows, rows[:30], losses[:30], met[:30])
    np.testing.assert_array_equal(early, rows[:, 0] != 0)
    assert narrowed.keeps(rows, rows[:36], losses[:36], met[:36]).all()
    assert judged == [24, 36]


def test_what_helps_to_meet_a_constraint_stays() -> None:
    rows = SPACE.sample(200, np.random.default_rng(0))
    losses = -np.array([[accuracy(row)] for row in rows])
    violations = np.where(rows[:, 0] == 0, 0.0, 1.0)
    narrowed = Narrowed(SPACE, harmful)
    marked = narrowed.harmful(rows, losses, np.zeros(200))
    assert marked[1, 3] and marked[0, 0]
    narrowed = Narrowed(SPACE, harmful)
    marked = narrowed.harmful(rows, losses, violations)
    assert marked[1, 3] and not marked[0, 0]


@pytest.mark.parametrize(("n", "by"), [(0, 0), (23, 0), (24, 24), (35, 24), (36, 36), (60, 54)])
def test_options_are_judged_ever_more_rarely(n: int, by: int) -> None:
    assert judged_by(n) == by
