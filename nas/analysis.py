"""What a finished search says about its predictor and its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from nas.core import Fidelity, Trial
from nas.core.goals import columns_of
from nas.core.pareto import non_dominated
from nas.problem import Problem
from predictors.encoders import with_costs
from predictors.gbdt import GradientBoostedTrees
from predictors.importance import decision_importance
from predictors.narrowing import HarmfulOption, harmful_options
from predictors.validation import Validation, cross_validate

MIN_TRIALS = 10
N_TIMES = 8
"""At which the predictor is judged in hindsight."""


def predictor_quality(problem: Problem, trials: Sequence[Trial]) -> dict[str, Validation]:
    """Out-of-fold predictions of each learned objective over the search trials, by metric.

    Empty with fewer than 10 completed trials.
    """
    done = _searched(trials)
    if len(done) < MIN_TRIALS:
        return {}
    space = problem.family.space
    rows = np.stack([space.row(t.candidate) for t in done if t.candidate is not None])
    features = with_costs(space, problem.family.costs)(rows)
    fresh = partial(GradientBoostedTrees, seed=problem.spec.seed % 2**31)
    return {
        metric: cross_validate(fresh, features, np.array([t.metrics[metric] for t in done]))
        for metric in _learned(problem)
    }


def tau_over_time(problem: Problem, trials: Sequence[Trial]) -> dict[str, list[tuple[int, float]]]:
    """Kendall's tau of out-of-fold predictions among the first trials, by metric.

    Pairs of a number of completed search trials and the tau among so many; nan where all of them
    score the same. Empty with fewer than 10 completed trials.
    """
    done = _searched(trials)
    found: dict[str, list[tuple[int, float]]] = {}
    if len(done) < MIN_TRIALS:
        return found
    for n in sorted({round(n) for n in np.linspace(MIN_TRIALS, len(done), N_TIMES)}):
        for metric, quality in predictor_quality(problem, done[:n]).items():
            found.setdefault(metric, []).append((n, quality.tau))
    return found


def importances(problem: Problem, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Share of each decision in explaining each objective, by metric, largest first."""
    done = _searched(trials)
    if len(done) < MIN_TRIALS:
        return {}
    space = problem.family.space
    rows = np.stack([space.row(t.candidate) for t in done if t.candidate is not None])
    return {
        o.metric: decision_importance(space, rows, np.array([t.metrics[o.metric] for t in done]))
        for o in problem.spec.goals.objectives
    }


def harmful(problem: Problem, trials: Sequence[Trial]) -> tuple[HarmfulOption, ...]:
    """Options that harm an objective and help none, by the search trials; the front's stay."""
    done = _searched(trials)
    if not done:
        return ()
    space, goals = problem.family.space, problem.spec.goals
    rows = np.stack([space.row(t.candidate) for t in done if t.candidate is not None])
    columns = columns_of([t.metrics for t in done], goals.metrics)
    losses, violations = goals.losses(columns), goals.violations(columns, len(done))
    front = rows[non_dominated(losses, violations)]
    judged = np.concatenate([losses, violations[:, None]], axis=1)
    return harmful_options(space, rows, judged, front, seed=problem.spec.seed % 2**31)


def _searched(trials: Sequence[Trial]) -> list[Trial]:
    searched = (Fidelity.INHERITED, Fidelity.TRAINED)
    return [t for t in trials if t.scores() and t.fidelity in searched]


def _learned(problem: Problem) -> list[str]:
    metrics = [o.metric for o in problem.spec.goals.objectives]
    return [m for m in metrics if m not in problem.cost_names]
