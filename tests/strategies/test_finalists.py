from __future__ import annotations

import numpy as np

from nas.core import (
    Fidelity,
    SearchStrategy,
    TrialState,
)
from nas.core.goals import columns_of
from nas.strategies import (
    Finalists,
    RandomSearch,
)
from tests.strategies.toy import (
    GOALS,
    make_space,
    simulate,
)


def test_finalists_are_the_front_after_the_search_is_done() -> None:
    space = make_space(5)
    log = simulate(Finalists(RandomSearch(space, 0), GOALS, 20, 5), space, 1000, workers=3)
    final = [t for t in log if t.fidelity is Fidelity.DEPLOYED and t.state is TrialState.RUNNING]
    first = log.index(final[0])
    searched = [t for t in log[:first] if t.state is not TrialState.RUNNING]
    assert len(searched) == 20
    assert len(final) == 5
    done = [t for t in searched if t.state is TrialState.COMPLETED]
    columns = columns_of([t.metrics for t in done], GOALS.metrics)
    losses = GOALS.losses(columns)
    chosen = {t.candidate.key for t in final if t.candidate}
    for i, t in enumerate(done):
        better = (losses <= losses[i]).all(axis=1) & (losses < losses[i]).any(axis=1)
        feasible = GOALS.violations(columns, len(done)) == 0
        if t.candidate and t.candidate.key in chosen and feasible[i]:
            outside = [
                j for j in np.flatnonzero(better & feasible) if done[j].candidate.key not in chosen
            ]  # type: ignore[union-attr]
            assert not outside


def test_a_larger_budget_goes_on_where_the_smaller_one_ended() -> None:
    space = make_space(5)

    def finalists(n_trials: int, n_finalists: int) -> SearchStrategy:
        return Finalists(RandomSearch(space, 0), GOALS, n_trials, n_finalists)

    small = simulate(finalists(10, 3), space, 1000, workers=2)
    assert len(small) == 2 * 13
    large = simulate(finalists(25, 6), space, 1000, workers=2, before=small)
    started = [t for t in large if t.state is TrialState.RUNNING]
    assert started[:13] == [t for t in small if t.state is TrialState.RUNNING]
    assert sum(t.fidelity is Fidelity.TRAINED for t in started) == 25
    assert all(t.fidelity is Fidelity.TRAINED for t in started[13:28])
    deployed = [t.candidate.key for t in started if t.fidelity is Fidelity.DEPLOYED and t.candidate]
    assert len(set(deployed)) == len(deployed)
    assert 6 <= len(deployed) <= 9


def test_finalists_stop_searching_when_worker_seconds_are_spent() -> None:
    space = make_space(5)
    strategy = Finalists(RandomSearch(space, 0), GOALS, 1000, 2, max_worker_seconds=10.0)
    log = simulate(strategy, space, 1000, workers=2)
    searched = [t for t in log if t.fidelity is Fidelity.TRAINED and t.state is TrialState.RUNNING]
    assert 10 <= len(searched) <= 14


def test_recalled_scores_may_become_finalists() -> None:
    space = make_space(5)
    known = [
        t
        for t in simulate(RandomSearch(space, 5), space, 60, workers=2)
        if t.state is TrialState.COMPLETED
    ]
    strategy = Finalists(RandomSearch(space, 1), GOALS, n_trials=1, n_finalists=4)
    strategy.recall(known)
    log = simulate(strategy, space, 10, workers=2)
    finalists = {t.candidate.key for t in log if t.candidate and t.fidelity is Fidelity.DEPLOYED}
    assert len(finalists & {t.candidate.key for t in known if t.candidate}) >= 3
