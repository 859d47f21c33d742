"""Pareto dominance and hypervolume, over losses (less is better). The sums are moocore's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core.goals import Goals, columns_of
from nas.core.trial import Fidelity, Trial

DIGITS = 12
"""Of scaled hypervolumes that are compared."""


def non_dominated(
    losses: NDArray[np.float64], violations: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """`(n,)` which rows of `(n, m)` finite losses no other row beats; of equal rows the first.

    With `violations (n,)`, only rows that meet all constraints (0) can be on the front.
    """
    usable = np.isfinite(losses).all(axis=1)
    if violations is not None:
        usable &= violations == 0.0
    mask = np.zeros(len(losses), dtype=np.bool_)
    index = np.flatnonzero(usable)
    if len(index):
        import moocore  # late: a device that only measures has no use for it

        mask[index] = moocore.is_nondominated(losses[index])
    return mask


def ranks(
    losses: NDArray[np.float64], violations: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """`(n,)` 0 for the front, 1 for the front without it …; then the infeasible, least wrong first.

    Reference: Deb et al. 2002 (NSGA-II), constraint-domination, section VI.
    """
    n = len(losses)
    violations = np.zeros(n) if violations is None else violations
    out = np.zeros(n, dtype=np.int64)
    feasible = (violations == 0.0) & np.isfinite(losses).all(axis=1)
    n_ranks = 0
    if feasible.any():
        import moocore

        out[feasible] = moocore.pareto_rank(losses[feasible])
        n_ranks = int(out[feasible].max()) + 1
    rest = np.flatnonzero(~feasible)
    out[rest] = n_ranks + np.argsort(np.argsort(violations[rest], kind="stable"), kind="stable")
    return out


def hypervolume(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume dominated by `(n, m)` losses up to `reference (m,)`; 0 for none."""
    inside = losses[(losses < reference).all(axis=1)]
    import moocore

    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def covering(losses: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """At most `n` rows of finite `(k, m)` losses; each adds most hypervolume to those before.

    Objectives are scaled to their ranges, and the reference point lies a tenth beyond them. Of
    equal gains the first is taken. Gains only shrink as rows are taken, so few are computed anew.

    Reference: Guerreiro et al. 2016 (Greedy hypervolume subset selection), algorithm 1; Minoux
    1978, for the lazy evaluation.
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    reference = np.full(losses.shape[1], 1.1)
    gains = np.prod(reference - scaled, axis=1)
    taken: list[int] = []
    total = 0.0
    while len(taken) < min(n, len(losses)):
        fresh: set[int] = set()
        while (best := int(gains.round(DIGITS).argmax())) not in fresh and taken:
            gains[best] = hypervolume(scaled[[*taken, best]], reference) - total
            fresh.add(best)
        taken.append(best)
        total += gains[best]
        gains[best] = -np.inf
    return np.array(taken, dtype=np.int64)


def reference_point(losses: NDArray[np.float64], margin: float = 0.1) -> NDArray[np.float64]:
    """`(m,)` worst finite loss per objective, moved outwards by `margin` of its range."""
    finite = losses[np.isfinite(losses).all(axis=1)]
    if not len(finite):
        return np.ones(losses.shape[1])
    worst, best = finite.max(axis=0), finite.min(axis=0)
    span = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1.0))
    return np.asarray(worst + margin * span, dtype=np.float64)


@dataclass(frozen=True)
class Front:
    """The non-dominated completed trials at one fidelity, best first by the first objective.

    Attributes:
        trials: the front's members.
        fidelity: what they were scored at; None when there is no completed trial.
        n_considered: completed trials at that fidelity.
    """

    trials: tuple[Trial, ...]
    fidelity: Fidelity | None
    n_considered: int


@dataclass(frozen=True)
class Standing:
    """How a search stands, in numbers.

    Attributes:
        n_front: members of the front.
        best: by objective, the best value on the front; empty where there is no front.
        hypervolume: of the front, as a share of the box that completed trials span.
    """

    n_front: int
    best: Mapping[str, float]
    hypervolume: float


def standing_of(
    trials: Sequence[Trial], goals: Goals, fidelity: Fidelity | None = None
) -> Standing:
    """How a search stands at `fidelity`, by default the most trusted one reached."""
    front = front_of(trials, goals, fidelity)
    if not front.trials:
        return Standing(0, {}, 0.0)
    losses = goals.losses(columns_of([t.metrics for t in front.trials], goals.metrics))
    lowest = losses.min(axis=0)
    values = goals.losses({o.metric: lowest[j : j + 1] for j, o in enumerate(goals.objectives)})
    everyone = [t.metrics for t in trials if t.scores(front.fidelity)]
    spread = goals.losses(columns_of(everyone, goals.metrics))
    span = np.where(np.ptp(spread, axis=0) > 0, np.ptp(spread, axis=0), 1.0)
    share = hypervolume((losses - spread.min(axis=0)) / span, np.ones(losses.shape[1]))
    best = {o.metric: float(values[0, j]) for j, o in enumerate(goals.objectives)}
    return Standing(len(front.trials), best, share)


def front_of(trials: Sequence[Trial], goals: Goals, fidelity: Fidelity | None = None) -> Front:
    """The front among the completed evaluations at `fidelity`, by default the most trusted one.

    A trial without a value for one of the objectives or constraints is not on the front.
    """
    scored = [t for t in trials if t.scores()]
    found = {t.fidelity for t in scored if t.fidelity is not None}
    if fidelity is None and found:
        fidelity = max(found, key=lambda f: f.rank)
    members = [t for t in scored if t.fidelity is fidelity]
    if not members:
        return Front((), fidelity, 0)
    columns = columns_of([t.metrics for t in members], goals.metrics)
    order = front_rows(goals.losses(columns), goals.violations(columns, len(members)))
    return Front(tuple(members[i] for i in order), fidelity, len(members))


def front_rows(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions of the front among `(n, m)` losses with `(n,)` violations, best first."""
    members = np.flatnonzero(non_dominated(losses, violations))
    return members[np.argsort(losses[members, 0], kind="stable")]
