"""A small space, what its candidates score, and a run of a strategy on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.core import (
    Condition,
    Decision,
    Fidelity,
    Genotypes,
    Goals,
    SearchSpace,
    SearchStrategy,
    Trial,
    TrialState,
)
from nas.strategies import (
    RandomSearch,
    Seeded,
)

GOALS = Goals.parse(["accuracy", "weight_bytes"], ["weight_bytes<=900"])
SINGLE_GOAL = Goals.parse(["accuracy"])


def make_space(n_decisions: int) -> SearchSpace:
    decisions = [Decision(f"w{i}", (1, 2, 4, 8)) for i in range(n_decisions)]
    decisions += [
        Decision("bits", (4, 8, 32)),
        Decision("grain", ("tensor", "channel"), Condition("bits", (4, 8)), ordered=False),
    ]
    return SearchSpace(tuple(decisions))


def costs_of(space: SearchSpace) -> Callable[[Genotypes], dict[str, np.ndarray]]:
    def costs(rows: Genotypes) -> dict[str, np.ndarray]:
        width = np.array([1.0, 2.0, 4.0, 8.0])[rows[:, : len(space) - 2]]
        bits = np.array([4.0, 8.0, 32.0])[rows[:, -2]]
        return {"weight_bytes": width.sum(axis=1) * bits}

    return costs


def score(space: SearchSpace, row: Genotypes) -> dict[str, float]:
    """A smooth made-up accuracy with interactions, and the exact cost."""
    weight = costs_of(space)(row[None])["weight_bytes"][0]
    depth = len(space) - 2
    gain = sum((1 + i % 3) * np.log2(1 + row[i]) for i in range(depth)) / (4 * depth)
    noise = [0.12, 0.03, 0.0][row[-2]] * (0.6 if row[-1] == 1 else 1.0)
    return {"accuracy": float(0.5 + gain * 0.3 - noise), "weight_bytes": float(weight)}


def seeded(
    space: SearchSpace, seed: int, admissible: Callable[[Genotypes], np.ndarray] | None = None
) -> Seeded:
    first = RandomSearch(space, seed, admissible=admissible)
    strategy = Seeded(first, space, 4, seed, Fidelity.TRAINED, admissible)
    rng = np.random.default_rng(seed)
    strategy.follow({d.name: rng.dirichlet(np.ones(len(d.options))) for d in space.decisions})
    return strategy


def simulate(
    strategy: SearchStrategy,
    space: SearchSpace,
    n: int,
    workers: int,
    seed: int = 0,
    before: Sequence[Trial] = (),
) -> list[Trial]:
    """Events of an asynchronous run: out-of-order finishes, every ninth trial fails.

    Goes on from the events `before`, of which none may still run.
    """
    rng = np.random.default_rng(seed)
    log = list(before)
    strategy.tell(log)
    running: list[Trial] = []
    number = len(log) // 2
    while True:
        while number < n and len(running) < workers:
            tasks = strategy.ask(1)
            if not tasks:
                break
            trial = Trial(number, tasks[0])
            number += 1
            strategy.tell([trial])
            log.append(trial)
            running.append(trial)
        if not running:
            return log
        trial = running.pop(int(rng.integers(len(running))))
        assert trial.candidate is not None
        done = trial.completed(score(space, space.row(trial.candidate)), seconds=1.0)
        done = trial.failed("broken") if trial.number % 9 == 8 else done
        strategy.tell([done])
        log.append(done)


def keys(trials: Sequence[Trial]) -> list[str]:
    return [t.candidate.key for t in trials if t.candidate and t.state is TrialState.RUNNING]


def light(space: SearchSpace, rows: Genotypes) -> np.ndarray:
    return np.asarray(costs_of(space)(rows)["weight_bytes"] <= 150)


def asked_light(strategy: SearchStrategy, space: SearchSpace) -> list[bool]:
    """Of every trial of a run, whether its candidate is light."""
    log = simulate(strategy, space, 40, workers=2)
    assert len(log) >= 40
    return [light(space, space.row(t.candidate)[None])[0] for t in log if t.candidate]
