"""Cross-entropy method: where the distribution goes."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest

from nas.core import Condition, Decision, Goals, SearchSpace, Trial
from nas.strategies import CrossEntropy

SPACE = SearchSpace(tuple(Decision(f"d{i}", (0, 1, 2, 3)) for i in range(8)))
TARGET = np.array([3, 0, 1, 2, 3, 0, 1, 2])
ONE = Goals.parse(["loss:min"])


def step(strategy: CrossEntropy, number: int, space: SearchSpace = SPACE) -> Trial:
    """Ask and finish one trial whose loss is its weighted distance from the target."""
    running = Trial(number, strategy.ask(1)[0])
    assert running.candidate is not None
    row = space.row(running.candidate)
    missed = row[: len(TARGET)] != TARGET[: len(space)]
    loss = float(missed @ np.arange(10, 10 + len(missed)))
    done = running.completed({"loss": loss, "size": float(row.sum())})
    strategy.tell([running, done])
    return done


def test_the_distribution_gathers_at_the_best() -> None:
    strategy = CrossEntropy(SPACE, ONE, 0, population=10, floor=0.1)
    for number in range(150):
        step(strategy, number)
    for i, p in enumerate(strategy.probabilities().values()):
        assert p.sum() == pytest.approx(1.0)
        assert p.min() >= 0.1 / 4 - 1e-12
        assert p.argmax() == TARGET[i]
    mean = np.mean([p.max() for p in strategy.probabilities().values()])
    assert mean > 0.6


def test_a_fit_moves_by_the_smoothing_towards_the_elite() -> None:
    strategy = CrossEntropy(SPACE, ONE, 1, population=12, elite=0.25, smoothing=0.4, floor=0.0)
    done = [step(strategy, number) for number in range(11)]
    assert all((p == 0.25).all() for p in strategy.probabilities().values())
    done.append(step(strategy, 11))
    best = sorted(done, key=lambda t: t.metrics["loss"])
    assert best[2].metrics["loss"] < best[3].metrics["loss"]
    elite = np.stack([SPACE.row(t.candidate) for t in best[:3] if t.candidate])
    for i, p in enumerate(strategy.probabilities().values()):
        share = np.bincount(elite[:, i], minlength=4) / ceil(0.25 * 12)
        assert p == pytest.approx(0.6 * 0.25 + 0.4 * share)


def test_only_the_feasible_are_fitted_while_there_are_enough() -> None:
    goals = Goals.parse(["loss:max"], ["size<=10"])
    strategy = CrossEntropy(SPACE, goals, 0, population=40, elite=0.2, smoothing=1.0, floor=0.0)
    done = [step(strategy, number) for number in range(40)]
    assert sum(t.metrics["size"] <= 10 for t in done) >= 8
    mean = sum(p @ np.arange(4) for p in strategy.probabilities().values())
    assert mean <= 10


def test_inactive_decisions_do_not_count() -> None:
    space = SearchSpace(
        (
            Decision("bits", (8, 32)),
            Decision("grain", ("tensor", "channel"), Condition("bits", (8,)), ordered=False),
            *(Decision(f"d{i}", (0, 1)) for i in range(6)),
        )
    )
    strategy = CrossEntropy(space, ONE, 0, population=8, floor=0.0, elite=0.1)
    running = [Trial(number, task) for number, task in enumerate(strategy.ask(8))]
    strategy.tell(running)
    plain = [t.candidate is not None and t.candidate.values["bits"] == 32 for t in running]
    assert any(plain)
    losses = [{"loss": 1.0 - p + 0.01 * i} for i, p in enumerate(plain)]
    strategy.tell([t.completed(m) for t, m in zip(running, losses, strict=True)])
    assert strategy.probabilities()["grain"].tolist() == [0.5, 0.5]
    assert strategy.probabilities()["bits"][1] == pytest.approx(0.5 * 0.3 + 0.7)


def test_each_objective_has_its_own_distribution() -> None:
    goals = Goals.parse(["low:min", "high:max"])
    strategy = CrossEntropy(SPACE, goals, 0)
    for number in range(150):
        running = Trial(number, strategy.ask(1)[0])
        assert running.candidate is not None
        row = SPACE.row(running.candidate)
        found = {"low": float(row.sum()), "high": float(np.sqrt(row).sum())}
        strategy.tell([running, running.completed(found)])
    low, high = (
        sum(p @ np.arange(4) for p in strategy.probabilities(i).values()) for i in range(2)
    )
    assert low < 9 and high > 13  # a random candidate has 12
