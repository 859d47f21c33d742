"""Numbers behind the figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core import Fidelity, Goals, Trial, hypervolume, non_dominated, reference_point
from nas.core.goals import columns_of


def at_fidelity(trials: Sequence[Trial], fidelity: Fidelity) -> list[Trial]:
    """The trials completed at one fidelity, at full effort, in the order given."""
    return [t for t in trials if t.scores(fidelity)]


def hypervolume_trace(trials: Sequence[Trial], goals: Goals) -> NDArray[np.float64]:
    """`(n,)` hypervolume after each of `n` completed trials, as a share of the final one.

    Losses are scaled to the range they cover; the reference point lies a tenth beyond their
    worst. Only trials that improve the front cost time.
    """
    losses, violations = losses_of(trials, goals)
    trace = np.zeros(len(losses))
    if not len(losses):
        return trace
    reference = reference_point(losses)
    scale = np.where(reference > losses.min(axis=0), reference - losses.min(axis=0), 1.0)
    points, limit = (losses - reference) / scale, np.zeros(losses.shape[1])
    front: NDArray[np.float64] = np.empty((0, losses.shape[1]))
    value = 0.0
    for i, point in enumerate(points):
        beaten = len(front) and bool((front <= point).all(axis=1).any())
        if violations[i] == 0.0 and np.isfinite(point).all() and not beaten:
            front = np.vstack([front, point])
            front = front[non_dominated(front)]
            value = hypervolume(front, limit)
        trace[i] = value
    return trace / value if value > 0 else trace


def best_so_far(trials: Sequence[Trial], goals: Goals) -> dict[str, NDArray[np.float64]]:
    """`(n,)` best feasible value of each objective after each of `n` completed trials."""
    losses, violations = losses_of(trials, goals)
    feasible = np.where((violations == 0.0)[:, None], losses, np.inf)
    best = np.minimum.accumulate(feasible, axis=0) if len(losses) else losses
    signs = goals.losses({o.metric: np.ones(1) for o in goals.objectives})[0]
    values = np.where(np.isfinite(best), best * signs, np.nan)
    return {o.metric: values[:, j] for j, o in enumerate(goals.objectives)}


def losses_of(
    trials: Sequence[Trial], goals: Goals
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`(n, m)` losses and `(n,)` violations of completed trials."""
    columns = columns_of([t.metrics for t in trials], goals.metrics)
    return goals.losses(columns), goals.violations(columns, len(trials))
