"""What a job is up against, before any compute is spent: size, cost ranges, feasibility, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import Constraint, Genotypes, InfeasibleError, Relation, descend
from nas.problem import Problem
from workers.estimation import (
    estimate_differentiable_seconds,
    estimate_supernet_seconds,
    estimate_trial_seconds,
    latency_floor_ms,
)
from workers.inherited import LATENCY_METRICS

N_SAMPLES = 20_000
UNIT_METRICS = ("accuracy", "true_class_probability")
"""Metrics that are shares: between 0 and 1."""


@dataclass(frozen=True)
class Preview:
    """What is known before the first trial.

    Attributes:
        n_candidates: exact number of distinct candidates in the space.
        cost_ranges: smallest and largest value of each cost that coordinate descent found;
            exact wherever a cost is monotone in every decision.
        feasible_share: share of uniformly sampled candidates that are connected and meet the cost
            constraints.
        ruled_out: by constraint, the share of sampled candidates it rules out alone.
        latency_floor_ms: fastest measured time among the space's cheapest networks, untrained.
        trial_seconds: estimated worker seconds of one search trial, from timed training steps.
        job_seconds: estimated wall time of the job with `n_workers` workers.
        n_workers: workers the estimate is for.
    """

    n_candidates: int
    cost_ranges: Mapping[str, tuple[float, float]]
    feasible_share: float
    ruled_out: Mapping[str, float]
    latency_floor_ms: float
    trial_seconds: float
    job_seconds: float
    n_workers: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; the exact size as text, since it outgrows what JSON readers keep exact."""
        return {
            "n_candidates": str(self.n_candidates),
            "cost_ranges": {k: list(v) for k, v in self.cost_ranges.items()},
            "feasible_share": self.feasible_share,
            "ruled_out": dict(self.ruled_out),
            "latency_floor_ms": self.latency_floor_ms,
            "trial_seconds": self.trial_seconds,
            "job_seconds": self.job_seconds,
            "n_workers": self.n_workers,
        }


def preview(problem: Problem, n_workers: int) -> Preview:
    """Look at a job before it runs.

    Raises:
        InfeasibleError: constraints that nothing in the space can meet.
    """
    floor = latency_floor_ms(problem.family, cheapest(problem))
    check_feasible(problem, floor)
    space = problem.family.space
    rows = space.sample(N_SAMPLES, np.random.default_rng(problem.spec.seed))
    costs = problem.family.costs(rows)
    constraints = problem.cost_constraints
    spec = problem.spec
    by_size = np.argsort(costs["macs"])
    quartiles = by_size[[N_SAMPLES // 4, N_SAMPLES // 2, 3 * N_SAMPLES // 4]]
    middle = [space.candidate(rows[i]) for i in quartiles]
    times = estimate_trial_seconds(problem.family, problem.dataset, middle, problem.evaluation)
    search, shared = times.search, 0.0
    if problem.supernet_settings is not None:
        supernet = estimate_supernet_seconds(
            problem.family, problem.dataset, middle, problem.supernet_settings
        )
        search, shared = supernet.score, supernet.training
        if any(m in LATENCY_METRICS for m in spec.goals.metrics):
            search += times.measuring
    if problem.differentiable_settings is not None:
        shared += estimate_differentiable_seconds(
            problem.family, problem.dataset, spec.goals, problem.differentiable_settings
        )
    n_rounds = -(-spec.budget.trials // n_workers)
    return Preview(
        n_candidates=space.size,
        cost_ranges={name: cost_range(problem, name) for name in costs},
        feasible_share=float(problem.admissible(rows).mean()),
        ruled_out={str(c): float((~c.met(costs[c.metric])).mean()) for c in constraints},
        latency_floor_ms=floor,
        trial_seconds=search,
        job_seconds=shared + n_rounds * search + spec.budget.finalists * times.finalist,
        n_workers=n_workers,
    )


def check_feasible(problem: Problem, floor_ms: float | None = None) -> None:
    """Refuse constraints that no candidate meets: on costs, on shares, on measured latency.

    Args:
        problem: whose constraints.
        floor_ms: the least latency to expect; None measures it where a constraint needs it.

    Raises:
        InfeasibleError: with the nearest values that some candidate has.
    """
    for constraint in problem.spec.goals.constraints:
        _check_unit(constraint)
        if constraint.metric not in problem.cost_names:
            continue
        low, high = cost_range(problem, constraint.metric)
        nearest = low if constraint.relation is Relation.AT_MOST else high
        if not constraint.met([nearest])[0]:
            raise InfeasibleError(
                f"constraint {constraint.metric}",
                f"{constraint.relation}{constraint.bound:g}",
                f"nothing in the space meets it; the nearest feasible bound is {nearest:g}",
            )
    if problem.cost_constraints:
        _check_together(problem)
    if any(c.metric == "latency_ms" for c in problem.spec.goals.constraints):
        _check_latency(problem, floor_ms or latency_floor_ms(problem.family, cheapest(problem)))


def cost_range(problem: Problem, name: str) -> tuple[float, float]:
    """Smallest and largest value of a cost that descent over the space finds."""

    def column(rows: Genotypes) -> NDArray[np.float64]:
        return problem.family.costs(rows)[name]

    low = column(_least(problem, column)[None])[0]
    high = column(_least(problem, lambda rows: -column(rows))[None])[0]
    return float(low), float(high)


def cheapest(problem: Problem) -> list[Genotypes]:
    """Rows of the fewest MACs: as they are, and (where decisions allow) at 8 bits throughout."""
    space = problem.family.space
    row = _least(problem, lambda rows: problem.family.costs(rows)["macs"])
    int8 = row.copy()
    for i, decision in enumerate(space.decisions):
        if decision.name.endswith("_bits") and 8 in decision.options:
            int8[i] = decision.options.index(8)
        elif int8[i] < 0:
            int8[i] = 0
    return [row, space.canonical(int8[None])[0]]


def _least(
    problem: Problem, loss: Callable[[Genotypes], NDArray[np.float64]], n_starts: int = 4
) -> Genotypes:
    """`(d,)` row of the least loss among connected ones that descent finds."""
    family = problem.family
    return descend(
        family.space,
        lambda rows: np.where(family.connected(rows), loss(rows), np.inf),
        n_starts,
    )


def _check_unit(constraint: Constraint) -> None:
    if constraint.metric in UNIT_METRICS and not 0.0 <= constraint.bound <= 1.0:
        raise InfeasibleError(
            f"constraint {constraint.metric}",
            f"{constraint.relation}{constraint.bound:g}",
            f"{constraint.metric} is a share between 0 and 1 (write 0.95 for 95 %)",
        )


def _check_together(problem: Problem) -> None:
    """Each constraint can be met alone; can all of them together?"""

    def violation(rows: Genotypes) -> NDArray[np.float64]:
        return problem.violations(problem.family.costs(rows), len(rows))

    row = _least(problem, violation, n_starts=16)
    if violation(row[None])[0] == 0.0:
        return
    costs = problem.family.costs(row[None])
    constraints = problem.cost_constraints
    nearest = ", ".join(f"{c.metric}={costs[c.metric][0]:g}" for c in constraints)
    raise InfeasibleError(
        "constraints",
        " and ".join(str(c) for c in constraints),
        f"no candidate found that meets them together; the nearest one has {nearest}",
    )


def _check_latency(problem: Problem, floor_ms: float) -> None:
    for constraint in problem.spec.goals.constraints:
        below = constraint.metric == "latency_ms" and constraint.relation is Relation.AT_MOST
        if below and constraint.bound < 0.8 * floor_ms:
            raise InfeasibleError(
                "constraint latency_ms",
                f"<={constraint.bound:g}",
                f"the space's cheapest network takes {floor_ms:.3g} ms on this device",
            )
