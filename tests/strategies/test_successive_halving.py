from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from nas.core import (
    Decision,
    Evaluate,
    Fidelity,
    Goals,
    InvalidInputError,
    SearchSpace,
    Trial,
    TrialState,
)
from nas.strategies import Finalists, RandomSearch, SearchContext, make_strategy
from nas.strategies.successive_halving import SuccessiveHalving

SPACE = SearchSpace(tuple(Decision(f"d{i}", tuple(range(6))) for i in range(4)))
GOALS = Goals.parse(["accuracy", "cost"])


def score(row: np.ndarray, effort: float, noise: float = 0.0) -> dict[str, float]:
    """Accuracy rises with effort; little effort is a noisy hint."""
    truth = row.sum() / 20
    rng = np.random.default_rng(int(SPACE.keys(row[None])[0] % 2**32))
    hint = truth + (1 - effort) * noise * rng.standard_normal()
    return {"accuracy": float(hint * (0.5 + 0.5 * effort)), "cost": float(row[0] + row[1])}


def make(seed: int = 0, goals: Goals = GOALS) -> SuccessiveHalving:
    return SuccessiveHalving(RandomSearch(SPACE, seed), goals, reduction=3, rungs=3)


def drive(strategy: SuccessiveHalving, n: int, parallel: int = 1) -> list[Trial]:
    """All events of `n` trials, `parallel` of them always under way."""
    log: list[Trial] = []
    waiting: list[Trial] = []
    rng, started = np.random.default_rng(5), 0
    while started < n or waiting:
        for task in strategy.ask(min(parallel - len(waiting), n - started)):
            trial = Trial(started, task)
            strategy.tell([trial])
            log.append(trial)
            waiting.append(trial)
            started += 1
        trial = waiting.pop(int(rng.integers(len(waiting))))
        row = SPACE.row(trial.task.candidate)
        done = (
            trial.failed("died")
            if trial.number % 11 == 5
            else trial.completed(score(row, trial.effort, 0.2))
        )
        strategy.tell([done])
        log.append(done)
    return log


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_best_third_goes_up_a_rung_and_no_one_twice(parallel: int) -> None:
    log = drive(make(), 130, parallel)
    efforts = Counter(round(t.effort * 9) for t in log if t.state is TrialState.RUNNING)
    assert set(efforts) == {1, 3, 9}
    assert efforts[1] > efforts[3] > efforts[9] > 3
    asked = [(t.candidate.key, t.effort) for t in log if t.state is TrialState.RUNNING]
    assert len(set(asked)) == len(asked)
    done = [t for t in log if t.state is TrialState.COMPLETED]
    low = {t.candidate.key for t in done if t.effort < 0.2}
    assert {t.candidate.key for t in done if 0.2 < t.effort < 0.9} <= low


def test_promotion_needs_no_one_to_wait_and_single_goals_take_the_best() -> None:
    goals = Goals.parse(["accuracy"])
    strategy = make(goals=goals)
    log = drive(strategy, 200)
    full = [t for t in log if t.scores()]
    cheap = [t for t in log if t.state is TrialState.COMPLETED and t.effort < 0.2]
    mean = np.mean([SPACE.row(t.candidate).sum() for t in cheap])
    assert np.mean([SPACE.row(t.candidate).sum() for t in full]) > mean + 2
    assert len(strategy.ask(3)) == 3  # with everything told, and with trials under way
    strategy.tell([Trial(200 + i, task) for i, task in enumerate(strategy.ask(3))])
    assert len(strategy.ask(3)) == 3


def test_a_fresh_one_told_the_log_goes_on_alike() -> None:
    strategy = make(3)
    log = drive(strategy, 60, 3)
    for cut in (10, 57, len(log)):
        one, other = make(3), make(3)
        one.tell(log[:cut])
        for trial in log[:cut]:
            other.tell([trial])
        assert one.ask(4) == other.ask(4) == one.ask(4)


def test_cheap_trials_are_hints_and_count_less() -> None:
    goals = Goals.parse(["accuracy"])
    search = Finalists(make(goals=goals), goals, n_trials=10, n_finalists=2)
    started: list[Trial] = []
    while tasks := search.ask(1):
        trial = Trial(len(started), tasks[0])
        row = SPACE.row(trial.task.candidate)
        search.tell([trial, trial.completed(score(row, trial.effort))])
        started.append(trial)
    searched = [t for t in started if t.fidelity is Fidelity.TRAINED]
    assert 9.99 < sum(t.effort for t in searched) < 11
    assert len(searched) > 25
    full = {t.candidate.key for t in searched if t.effort == 1.0}
    assert {t.candidate.key for t in started if t.fidelity is Fidelity.DEPLOYED} <= full


@pytest.mark.parametrize("rungs", [2, 3, 5])
@pytest.mark.parametrize("reduction", [2, 3])
def test_rungs_that_the_budget_cannot_climb_are_refused(
    context_of: Callable[..., SearchContext], rungs: int, reduction: int
) -> None:
    options = {"rungs": rungs, "reduction": reduction}
    with pytest.raises(InvalidInputError, match=rf"rungs: {rungs} .* at most {rungs - 1}"):
        make_strategy("random", context_of(SPACE, GOALS, n_trials=rungs - 1), options)
    search = Finalists(
        make_strategy("random", context_of(SPACE, GOALS, n_trials=rungs), options), GOALS, rungs, 1
    )
    n_started = n_whole = 0
    while (tasks := search.ask(1)) and tasks[0].fidelity is Fidelity.TRAINED:
        trial = Trial(n_started, tasks[0])
        metrics = score(SPACE.row(trial.task.candidate), trial.effort)
        search.tell([trial, trial.completed(metrics)])
        n_started += 1
        n_whole += trial.effort == 1.0
    assert n_whole >= 1


def test_nonsense_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="rungs"):
        SuccessiveHalving(RandomSearch(SPACE, 0), GOALS, rungs=1)
    with pytest.raises(InvalidInputError, match="reduction"):
        SuccessiveHalving(RandomSearch(SPACE, 0), GOALS, reduction=1)
    with pytest.raises(InvalidInputError, match="effort"):
        Evaluate(SPACE.candidate(SPACE.rows()[0]), Fidelity.TRAINED, 0.0)
