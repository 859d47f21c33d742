"""Numbers behind the figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core import Fidelity, Goals, Trial, hypervolume, reference_point
from nas.core.goals import columns_of

BLOCK = 512
"""Points compared with the front at once."""


def at_fidelity(trials: Sequence[Trial], fidelity: Fidelity) -> list[Trial]:
    """The trials completed at one fidelity, at full effort, in the order given."""
    return [t for t in trials if t.scores(fidelity)]


def hypervolume_trace(trials: Sequence[Trial], goals: Goals) -> NDArray[np.float64]:
    """`(n,)` hypervolume after each of `n` completed trials, as a share of the final one.

    Losses are scaled to the range they cover; the reference point lies a tenth beyond their
    worst. Only trials that improve the front cost time.
    """
    trace = hypervolumes(*losses_of(trials, goals))
    return trace / trace[-1] if len(trace) and trace[-1] > 0 else trace


def hypervolumes(
    losses: NDArray[np.float64],
    violations: NDArray[np.float64],
    reference: NDArray[np.float64] | None = None,
    ideal: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """`(n,)` hypervolume after each of `n` points `(n, m)`, in units of the box they span.

    Args:
        losses: of the points.
        violations: `(n,)`, 0 where a point meets all constraints.
        reference: `(m,)` far corner of the box; None for a tenth beyond the worst losses.
        ideal: `(m,)` near corner; None for the best losses.
    """
    trace = np.zeros(len(losses))
    finite = losses[np.isfinite(losses).all(axis=1)]
    if not len(finite):
        return trace
    reference = reference_point(losses) if reference is None else reference
    ideal = finite.min(axis=0) if ideal is None else ideal
    scale = np.where(reference > ideal, reference - ideal, 1.0)
    points, limit = (losses - reference) / scale, np.zeros(losses.shape[1])
    came, went = front_history(losses, violations)
    left = set(went[went < len(losses)].tolist())
    front: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    last = 0
    for i in np.flatnonzero(came).tolist():
        trace[last:i] = trace[last - 1] if last else 0.0
        if i in left:
            front = front[went[front] != i]
        front = np.append(front, i)
        trace[i], last = hypervolume(points[front], limit), i + 1
    trace[last:] = trace[last - 1] if last else 0.0
    return trace


def front_history(
    losses: NDArray[np.float64], violations: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """`(n,)` whether each point was on the front when it came, and `(n,)` which one drove it off.

    The latter is n where none has. Of equal points the first stays.

    Args:
        losses: `(n, m)`, in the order they came.
        violations: `(n,)`; only points of 0 can be on the front.
    """
    n = len(losses)
    came, went = np.zeros(n, dtype=np.bool_), np.full(n, n, dtype=np.int64)
    usable = np.isfinite(losses).all(axis=1) & (violations == 0.0)
    front: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for start in range(0, n, BLOCK):
        block = start + np.flatnonzero(usable[start : start + BLOCK])
        beaten = np.any((losses[front][None] <= losses[block][:, None]).all(axis=2), axis=1)
        for i in block[~beaten].tolist():
            if np.any((losses[front] <= losses[i]).all(axis=1)):
                continue
            off = (losses[i] <= losses[front]).all(axis=1)
            went[front[off]] = i
            front = np.append(front[~off], i)
            came[i] = True
    return came, went


def best_so_far(trials: Sequence[Trial], goals: Goals) -> dict[str, NDArray[np.float64]]:
    """`(n,)` best feasible value of each objective after each of `n` completed trials."""
    return best_values(*losses_of(trials, goals), goals)


def best_values(
    losses: NDArray[np.float64], violations: NDArray[np.float64], goals: Goals
) -> dict[str, NDArray[np.float64]]:
    """The same from `(n, m)` losses and `(n,)` violations."""
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
