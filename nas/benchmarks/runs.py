"""One strategy, one seed, one tabular space: every query answered from the table."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    Direction,
    Evaluate,
    Fidelity,
    Genotypes,
    Goals,
    InvalidInputError,
    Learner,
    SearchStrategy,
    Task,
    Trial,
    UnknownNameError,
    hypervolume,
    non_dominated,
)
from nas.strategies import SearchContext, make_strategy, require_strategy
from predictors.encoders import one_hot
from predictors.learners import learner
from predictors.narrowing import harmful_flags
from predictors.registry import default, surrogate
from searchspaces.tabular import TabularBenchmark, tabular_benchmark

BEST = "best"
FENCE = 1.5


@dataclass(frozen=True)
class BenchmarkSpec:
    """What is compared.

    Attributes:
        space: a tabular benchmark by name, or `table:PATH`.
        objectives: text forms, `metric`, `metric:min` or `metric:max`.
        constraints: text forms, `metric<=number`.
        strategies: by name.
        seeds: runs of each strategy; seeds 0, 1, ….
        budget: queries of a run.
        target: value of the one objective (or share of the true front's hypervolume) to reach;
            `best` for the table's best; None for none.
        parallel: queries under way at once, each taking a random time.
        options: settings by strategy name.
        reference: by metric, the worst value that still counts in the hypervolume; else the
            table's worst, outliers aside (Tukey's fence: 1.5 interquartile ranges beyond the
            quartile).
    """

    space: str
    objectives: tuple[str, ...]
    strategies: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    seeds: int = 20
    budget: int = 300
    target: str | None = None
    parallel: int = 1
    options: dict[str, dict[str, object]] = field(default_factory=dict)
    reference: dict[str, float] = field(default_factory=dict)

    def contest(self, folder: Path) -> Contest:
        """The contest this describes, its table loaded from `folder`; nothing else is checked.

        Raises:
            InvalidInputError: no such table, or objectives or constraints that cannot be read.
        """
        goals = Goals.parse(self.objectives, self.constraints)
        return Contest(self, tabular_benchmark(self.space, folder), goals)

    def check(self, folder: Path) -> Contest:
        """The contest this describes, every name and number checked.

        Raises:
            InvalidInputError: anything that cannot work.
        """
        self._check_numbers()
        contest = self.contest(folder)
        self._check_names(contest)
        for name in self.strategies:
            contest.strategy(name, 0)
        _ = contest.target
        contest.score()
        return contest

    def _check_numbers(self) -> None:
        for name, value in (
            ("seeds", self.seeds),
            ("budget", self.budget),
            ("parallel", self.parallel),
        ):
            if value < 1:
                raise InvalidInputError(name, value, "at least 1")
        if not self.strategies:
            raise InvalidInputError("strategies", (), "at least one strategy")
        if len(set(self.strategies)) < len(self.strategies):
            raise InvalidInputError("strategies", self.strategies, "each strategy only once")
        for metric, worst in self.reference.items():
            if not math.isfinite(worst):
                raise InvalidInputError(f"reference.{metric}", worst, "a finite number")

    def _check_names(self, contest: Contest) -> None:
        for metric in contest.goals.metrics:
            if metric not in contest.table.metrics:
                raise UnknownNameError("objective", metric, contest.table.metrics)
        for name, options in self.options.items():
            if name not in self.strategies:
                raise UnknownNameError("strategy option", name, self.strategies)
            if options.get("rungs", 1) != 1:
                raise InvalidInputError(
                    f"strategy-option {name}.rungs", options["rungs"], "1: a table has no efforts"
                )
        if self.reference and not contest.several:
            raise InvalidInputError(
                "reference", self.reference, "none with one objective: it has no hypervolume"
            )
        objectives = [o.metric for o in contest.goals.objectives]
        for metric in self.reference:
            if metric not in objectives:
                raise UnknownNameError("reference", metric, objectives)


@dataclass(frozen=True)
class Run:
    """What became of one strategy with one seed.

    Attributes:
        trace: after each query the best feasible value, or the share of the true front's
            hypervolume with several objectives; None before the first feasible candidate.
        queries_to_target: None if never.
        ask_seconds: spent asking, in all.
        optimum: the best the trace could have reached.
    """

    strategy: str
    seed: int
    trace: Sequence[float | None]
    queries_to_target: int | None
    ask_seconds: float
    several: bool
    optimum: float

    @property
    def regret(self) -> float | None:
        """How far the last value stayed from the optimum; None where nothing feasible was found."""
        last = self.trace[-1] if self.trace else None
        return None if last is None else abs(self.optimum - last)

    def to_json(self) -> dict[str, Any]:
        """With the trace under `hypervolume` where there are several objectives."""
        body: dict[str, Any] = {"strategy": self.strategy, "seed": self.seed}
        body["queries_to_target"] = self.queries_to_target
        body["best"] = self.trace[-1] if self.trace else None
        body["regret"] = self.regret
        body["hypervolume" if self.several else "trace"] = list(self.trace)
        return {**body, "ask_seconds": self.ask_seconds}


@dataclass(frozen=True)
class Contest:
    """A benchmark ready to run."""

    spec: BenchmarkSpec
    table: TabularBenchmark
    goals: Goals

    def strategy(self, name: str, seed: int) -> SearchStrategy:
        """A fresh strategy.

        Raises:
            UnknownNameError: no strategy of that name.
            InvalidInputError: a setting it does not have, or out of range.
        """
        require_strategy("strategies", name)
        context = SearchContext(
            space=self.table.space,
            goals=self.goals,
            seed=seed,
            n_trials=self.spec.budget,
            fidelity=Fidelity.TRAINED,
            admissible=None if self._whole else self.table.known,
            costs=self.table.costs,
            learner=partial(learner_of, self.table, seed),
            default_predictor=default(len(self.goals.objectives)),
            one_hot=partial(one_hot, self.table.space),
            surrogate=partial(surrogate, seed),
            narrow=partial(harmful_flags, self.table.space, seed),
        )
        return make_strategy(name, context, self.spec.options.get(name, {}))

    def run(self, name: str, seed: int) -> Run:
        """Let one strategy query the table until the budget is spent or nothing is left."""
        strategy, answers = self.strategy(name, seed), _Queue(seed)
        score = self.score()
        seconds, started = 0.0, 0
        trace: list[float | None] = []
        while len(trace) < self.spec.budget:
            wanted = min(self.spec.parallel - len(answers), self.spec.budget - started)
            if wanted > 0:
                before = time.perf_counter()
                tasks = strategy.ask(wanted)
                seconds += time.perf_counter() - before
                for task in tasks:
                    trial = Trial(started, task)
                    strategy.tell([trial])
                    answers.push(trial)
                    started += 1
            if not len(answers):
                break
            trial = answers.pop()
            row = self._row(trial.task)
            found = {m: float(v[0]) for m, v in self.table.lookup(row[None]).items()}
            strategy.tell([trial.completed(found)])
            trace.append(score(found))
        reached = self._reached(trace)
        return Run(name, seed, trace, reached, seconds, self.several, self.optimum)

    @property
    def several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.goals.objectives) > 1

    @cached_property
    def optimum(self) -> float:
        """The table's best feasible value; 1 with several objectives.

        Raises:
            InvalidInputError: no candidate meets the constraints.
        """
        feasible = self._violations == 0.0
        if not feasible.any():
            raise InvalidInputError("constraint", self.spec.constraints, "one the table can meet")
        return 1.0 if self.several else self._sign * float(self._losses[feasible].min())

    @cached_property
    def target(self) -> float | None:
        """What is to be reached.

        Raises:
            InvalidInputError: neither a finite number nor `best`, no share where there are several
                objectives, or no candidate meets the constraints.
        """
        optimum = self.optimum
        if self.spec.target is None:
            return None
        if self.spec.target == BEST:
            return optimum
        try:
            target = float(self.spec.target)
        except ValueError:
            target = math.nan
        if not math.isfinite(target):
            raise InvalidInputError("target", self.spec.target, "a number, or best")
        if self.several and not 0.0 < target <= 1.0:
            raise InvalidInputError(
                "target", self.spec.target, "a share of the hypervolume above 0, at most 1"
            )
        return target

    def score(self) -> Callable[[dict[str, float]], float | None]:
        """A new function that takes a query's metrics and gives the trace's next entry.

        Raises:
            InvalidInputError: no candidate is better than the reference point.
        """
        return self._hypervolume_score() if self.several else self._best_score()

    # ---------------------------------------------------------------- inside

    @cached_property
    def _whole(self) -> bool:
        return self.table.space.cell is None and len(self.table.genotypes) == self.table.space.size

    @cached_property
    def _losses(self) -> NDArray[np.float64]:
        return self.goals.losses(self.table.columns)

    @cached_property
    def _violations(self) -> NDArray[np.float64]:
        return self.goals.violations(self.table.columns, len(self.table.genotypes))

    @property
    def _sign(self) -> float:
        return -1.0 if self.goals.objectives[0].direction is Direction.MAXIMIZE else 1.0

    def _row(self, task: Task) -> Genotypes:
        assert isinstance(task, Evaluate)
        return self.table.space.row(task.candidate)

    def _reached(self, trace: Sequence[float | None]) -> int | None:
        if self.target is None:
            return None
        sign = -1.0 if self.several else self._sign
        goal = sign * self.target + 1e-12 * abs(self.target)
        met = (i for i, v in enumerate(trace) if v is not None and sign * v <= goal)
        first = next(met, None)
        return None if first is None else first + 1

    def _best_score(self) -> Callable[[dict[str, float]], float | None]:
        best = np.inf

        def score(metrics: dict[str, float]) -> float | None:
            nonlocal best
            columns = {m: np.array([v]) for m, v in metrics.items()}
            if self.goals.violations(columns, 1)[0] == 0.0:
                best = min(best, float(self.goals.losses(columns)[0, 0]))
            return self._sign * best if np.isfinite(best) else None

        return score

    def _hypervolume_score(self) -> Callable[[dict[str, float]], float | None]:
        """Share of the true front's hypervolume up to the reference point."""
        feasible = self._losses[self._violations == 0.0]
        low, high = feasible.min(axis=0), self._reference(feasible)
        span = np.where(high > low, high - low, 1.0)
        reference = np.full(len(low), 1.0 + 1e-9)
        whole = hypervolume((feasible - low) / span, reference)
        front = np.empty((0, len(low)))

        def score(metrics: dict[str, float]) -> float | None:
            nonlocal front
            columns = {m: np.array([v]) for m, v in metrics.items()}
            if self.goals.violations(columns, 1)[0] == 0.0:
                front = np.vstack([front, (self.goals.losses(columns) - low) / span])
                front = front[non_dominated(front)]
            return hypervolume(front, reference) / whole if len(front) else 0.0

        return score

    def _reference(self, losses: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(m,)` losses from which on a candidate does not count."""
        low, high = np.percentile(losses, [25, 75], axis=0)
        point = np.minimum(losses.max(axis=0), high + FENCE * (high - low))
        asked = {m: [self.spec.reference.get(m, np.nan)] for m in self.goals.metrics}
        given = self.goals.losses(asked)[0]
        point = np.where(np.isnan(given), point, given)
        if not (losses < point).all(axis=1).any():
            raise InvalidInputError("reference", self.spec.reference, "worse than some candidate")
        return np.asarray(point)


def learner_of(table: TabularBenchmark, seed: int, name: str) -> Learner:
    """A predictor by name, and what it sees of a table's candidates."""
    return learner(name, seed, table.space, table.descriptors, table.described, table.graphs)


class _Queue:
    """Trials under way; the one that ends first comes out first, times being random."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng((seed, 7))
        self._now = 0.0
        self._waiting: list[tuple[float, int, Trial]] = []

    def push(self, trial: Trial) -> None:
        ends = self._now + float(self._rng.lognormal(0.0, 0.5))
        heapq.heappush(self._waiting, (ends, trial.number, trial))

    def pop(self) -> Trial:
        self._now, _, trial = heapq.heappop(self._waiting)
        return trial

    def __len__(self) -> int:
        return len(self._waiting)
