"""The adapter of Optuna's samplers: pure, silent, and mindful of constraints."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import optuna
import pytest

from nas.core import Condition, Constraint, Decision, Goals, SearchSpace, Trial
from nas.strategies import OptunaSearch, Sampler
from nas.strategies.optuna import _gap

SPACE = SearchSpace(
    (
        *(Decision(f"w{i}", (1, 2, 4)) for i in range(3)),
        Decision("op", ("conv", "pool", "skip"), ordered=False),
        Decision("only", (7,)),
        Decision("grain", ("tensor", "channel"), Condition("op", ("conv",)), ordered=False),
    )
)
GOALS = Goals.parse(["accuracy", "size:min"], ["size<=5", "accuracy>=0.2"])


def score(row: np.ndarray) -> dict[str, float]:
    size = float(row[:3].sum())
    return {"accuracy": 0.1 * size - 0.1 * row[3], "size": size}


def searched(strategy: OptunaSearch, n: int) -> list[Trial]:
    """Events of a run with two workers."""
    log: list[Trial] = []
    for number in range(n):
        log.append(Trial(number, strategy.ask(1)[0]))
        strategy.tell(log[-1:])
        if number:
            started = next(t for t in log if t.number == number - 1)
            assert started.candidate is not None
            log.append(started.completed(score(SPACE.row(started.candidate))))
            strategy.tell(log[-1:])
    return log


@pytest.mark.usefixtures("hasty_gp")
@pytest.mark.parametrize("sampler", Sampler)
def test_what_asks_leave_behind_does_not_matter(sampler: Sampler) -> None:
    strategy = OptunaSearch(SPACE, GOALS, 1, sampler, n_initial=5)
    log = searched(strategy, 11)
    for _ in range(3):
        strategy.ask(2)
    fresh = OptunaSearch(SPACE, GOALS, 1, sampler, n_initial=5)
    fresh.tell(log)
    assert fresh.ask(2) == strategy.ask(2)


def test_gaussian_processes_take_constraints_and_running_trials() -> None:
    strategy = OptunaSearch(SPACE, GOALS, 2, "gp", n_initial=8)
    log = searched(strategy, 10)
    asked = [t.candidate for t in log if t.candidate is not None]
    task = strategy.ask(1)[0]
    assert task.candidate not in asked  # type: ignore[union-attr]


def test_optuna_is_silent_and_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    optuna.logging.enable_propagation()
    before = optuna.logging.get_verbosity(), list(warnings.filters)
    with caplog.at_level(logging.DEBUG):
        searched(OptunaSearch(SPACE, GOALS, 0, "tpe", n_initial=2), 5)
    optuna.logging.disable_propagation()
    assert not [r for r in caplog.records if r.name.startswith("optuna")]
    assert (optuna.logging.get_verbosity(), list(warnings.filters)) == before


@pytest.mark.parametrize("text", ["size<=5", "size>=5", "size<=-2", "size>=0"])
def test_gaps_are_positive_just_where_a_constraint_is_missed(text: str) -> None:
    constraint = Constraint.parse(text)
    values = np.array([-9.0, -2.0, 0.0, 4.9, 5.0, 5.1, 60.0])
    gaps = _gap(constraint, values)
    assert ((gaps <= 0) == constraint.met(values)).all()
    assert np.maximum(gaps, 0) == pytest.approx(constraint.excess(values))


@pytest.mark.parametrize("sampler", [Sampler.TPE, Sampler.NSGA2])
def test_constraints_are_learned(sampler: Sampler) -> None:
    space = SearchSpace(tuple(Decision(f"w{i}", (0, 1, 2, 3)) for i in range(8)))
    goals = Goals.parse(["gain:max"], ["gain<=8"])
    strategy = OptunaSearch(space, goals, 0, sampler, n_initial=10)
    gains = []
    for number in range(60):
        running = Trial(number, strategy.ask(1)[0])
        assert running.candidate is not None
        gains.append(float(space.row(running.candidate).sum()))
        strategy.tell([running, running.completed({"gain": gains[-1]})])
    met = np.array(gains) <= 8
    assert met[30:].mean() > 2 * met[:10].mean()


def test_trials_without_every_metric_are_left_out() -> None:
    strategy = OptunaSearch(SPACE, GOALS, 0, "tpe", n_initial=2)
    for number in range(6):
        running = Trial(number, strategy.ask(1)[0])
        strategy.tell([running, running.completed({"size": 1.0})])
    assert strategy.ask(1)
