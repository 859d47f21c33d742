"""What plots and tables show of finished trials, as plain JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dashboard.series import best_values, hypervolumes
from nas.core import (
    Fidelity,
    Goals,
    InvalidInputError,
    Job,
    Trial,
    TrialQuery,
    TrialStore,
    front_rows,
    reference_point,
)
from nas.core.goals import metric_and_device
from nas.core.trial import MARKS, MOST_NUMBERS
from nas.core.wire import job_to_json, trial_to_json
from nas.service.outcomes import FIDELITIES, Outcomes
from nas.service.thinning import evenly, spread, thinned
from nas.spec import JobSpec

MOST_POINTS = 2000
N_SPARK = 40
N_PACE = 20
"""Trials that tell how fast a job is now."""


def front_of(job_id: str, trials: TrialStore, goals: Goals, found: Outcomes) -> dict[str, Any]:
    """The Pareto front at the most trusted fidelity there is."""
    scored = next((at for f in reversed(Fidelity) if len(at := found.scored(f))), found.number[:0])
    members = found.number[scored[front_rows(*found.losses(goals, scored))]].tolist()
    return {
        "job_id": job_id,
        "objectives": [str(o) for o in goals.objectives],
        "constraints": [str(c) for c in goals.constraints],
        "trials": [trial_to_json(trial) for trial in trials_of(trials, members)],
    }


def progress_of(goals: Goals, found: Outcomes) -> dict[str, Any]:
    """Hypervolume and best values of the search's own trials, thinned where many."""
    if found.searched is None:
        return {"n_finished": [], "at": [], "hypervolume": [], "best": {}, "fidelity": None}
    at, trace = found.scored(found.searched), found.trace(goals)
    best = best_values(*found.losses(goals, at), goals)
    chosen = evenly(len(at), MOST_POINTS)
    return {
        "n_finished": (chosen + 1).tolist(),
        "at": found.at[at[chosen]].tolist(),
        "hypervolume": (trace[chosen] / (trace[-1] or 1.0)).tolist(),
        "best": {
            name: [None if np.isnan(v) else float(v) for v in values[chosen]]
            for name, values in best.items()
        },
        "fidelity": found.searched.value,
    }


def points_of(
    x: str,
    y: str,
    color: str,
    limit: int,
    trials: TrialStore,
    goals: Goals,
    found: Outcomes,
) -> dict[str, Any]:
    """Two metrics of completed evaluations, at most about `limit`; see the route of that name."""
    missing = np.full(len(found), np.nan)
    across, up = found.metrics.get(x, missing), found.metrics.get(y, missing)
    entered, left = found.history(goals)
    whole = found.completed & (found.effort == 1.0) & (found.fidelity >= 0)
    there = np.flatnonzero(whole & np.isfinite(across) & np.isfinite(up))
    kept = there[~thinned(across[there], up[there], entered[there], limit)]
    _, violations = found.losses(goals, kept)
    return {
        "sequence": found.sequence,
        "n_finished": len(found),
        "n_points": len(there),
        "metrics": sorted(found.metrics),
        "objectives": [str(o) for o in goals.objectives],
        "constraints": [str(c) for c in goals.constraints],
        "fidelities": {f.value: n for f, n in found.scores.items()},
        "number": found.number[kept].tolist(),
        "order": (kept + 1).tolist(),
        "x": across[kept].tolist(),
        "y": up[kept].tolist(),
        "color": _plain(found.metrics.get(color, missing)[kept]) if color else None,
        "kinds": {m: kinds_of(m, kept, trials, found) for m in dict.fromkeys((x, y))},
        "fidelity": [FIDELITIES[i].value for i in found.fidelity[kept]],
        "feasible": (violations == 0.0).tolist(),
        "entered": entered[kept].tolist(),
        "left": [int(i) + 1 if i < len(found) else None for i in left[kept]],
    }


def kinds_of(metric: str, at: NDArray[np.int64], trials: TrialStore, found: Outcomes) -> list[str]:
    """Whether a metric of the trials at positions `at (m,)` was measured, simulated or else.

    Only a device that may be away gives both measured and predicted values; what the evaluator
    itself says is of one kind for all trials of a fidelity, so one of them tells it.
    """
    if not len(at):
        return []
    _, device = metric_and_device(metric)
    if device:
        return [trial.kind(metric) for trial in trials_of(trials, found.number[at].tolist())]
    _, first, which = np.unique(found.fidelity[at], return_index=True, return_inverse=True)
    told = [trial.kind(metric) for trial in trials_of(trials, found.number[at[first]].tolist())]
    return [told[i] for i in which]


def decisions_of(limit: int, goals: Goals, found: Outcomes) -> dict[str, Any]:
    """Decisions and metrics of completed search trials, at most about `limit`."""
    at = found.scored(found.searched) if found.searched else np.empty(0, dtype=np.int64)
    entered, left = found.history(goals)
    kept = spread(at, entered, limit)
    names = sorted(found.options, key=_stage)
    ordered = {name: _ordered(found.options[name]) for name in names}
    return {
        "number": found.number[kept].tolist(),
        "front": (entered[kept] & (left[kept] == len(found))).tolist(),
        "metrics": {m: _plain(found.metrics[m][kept]) for m in goals.metrics if m in found.metrics},
        "decisions": [
            {
                "name": name,
                "options": [found.options[name][i] for i in ordered[name]],
                "values": _placed(found.decisions[name][kept], ordered[name]),
            }
            for name in names
        ],
    }


def summary_of(trials: TrialStore, goals: Goals, found: Outcomes) -> dict[str, Any]:
    """Best feasible values, size of the front, a small curve of hypervolume, time and pace.

    `kinds` tells of best values that nobody measured.
    """
    body: dict[str, Any] = {
        "n_evaluated": int((found.fidelity >= 0).sum()),
        "span_seconds": float(np.ptp(found.at)) if len(found) else 0.0,
        "trials_per_minute": _pace(found.at[-N_PACE:]),
        "best": {},
        "kinds": {},
        "n_front": 0,
        "fidelity": None,
        "hypervolume": [],
    }
    if found.searched is None:
        return body
    trusted = max(found.scores, key=lambda f: f.rank)
    at = found.scored(trusted)
    losses, violations = found.losses(goals, at)
    able = (violations == 0.0) & np.isfinite(losses).all(axis=1)
    if able.any():
        leaders = at[able][losses[able].argmin(axis=0)].tolist()
        best = {o.metric: i for o, i in zip(goals.objectives, leaders, strict=True)}
        body["best"] = {m: float(found.metrics[m][i]) for m, i in best.items()}
        kinds = {m: kinds_of(m, np.array([i]), trials, found)[0] for m, i in best.items()}
        body["kinds"] = {m: kind for m, kind in kinds.items() if kind in MARKS}
    entered, at_end = found.history(goals)
    on = entered & (at_end == len(found)) & (found.fidelity == trusted.rank)
    trace = found.trace(goals)
    body |= {"n_front": int(on.sum()), "fidelity": trusted.value}
    body["hypervolume"] = trace[evenly(len(trace), N_SPARK)].tolist()
    return body


def _pace(at: NDArray[np.float64]) -> float | None:
    """Trials a minute, from when the last ones finished; None where they cannot tell."""
    span = float(np.ptp(at)) if len(at) > 1 else 0.0
    return 60.0 * (len(at) - 1) / span if span > 0.0 else None


def comparison_of(
    compared: Sequence[Job],
    specs: Sequence[JobSpec],
    stores: Sequence[TrialStore],
    found: Sequence[Outcomes],
) -> dict[str, Any]:
    """Jobs with the same objectives beside each other, their hypervolumes in one box.

    The box goes from the best values of all jobs to a tenth beyond the worst.

    Raises:
        InvalidInputError: their objectives differ.
    """
    objectives = specs[0].goals.objectives
    for spec in specs[1:]:
        if spec.goals.objectives != objectives:
            names = ", ".join(map(str, objectives))
            raise InvalidInputError("job", spec.name, f"jobs with the objectives {names}")
    at = [o.scored(o.searched) if o.searched else np.empty(0, dtype=np.int64) for o in found]
    pairs = [o.losses(spec.goals, rows) for o, spec, rows in zip(found, specs, at, strict=True)]
    pooled = np.concatenate([losses for losses, _ in pairs])
    pooled = pooled[np.isfinite(pooled).all(axis=1)]
    box = (reference_point(pooled), pooled.min(axis=0)) if len(pooled) else (None, None)
    traces = [hypervolumes(losses, violations, *box) for losses, violations in pairs]
    return {
        "objectives": [str(o) for o in objectives],
        "jobs": [
            _compared(*parts)
            for parts in zip(compared, specs, stores, found, at, traces, strict=True)
        ],
    }


def _compared(
    job: Job,
    spec: JobSpec,
    trials: TrialStore,
    found: Outcomes,
    at: NDArray[np.int64],
    trace: NDArray[np.float64],
) -> dict[str, Any]:
    shown = evenly(len(at), 1000)
    entered, left = found.history(spec.goals)
    on = np.flatnonzero(entered & (left == len(found)))
    trusted = max((found.fidelity[i] for i in on), default=-1)
    on = on[found.fidelity[on] == trusted]
    metrics = [o.metric for o in spec.goals.objectives] if len(on) else []
    return {
        "job": job_to_json(job),
        "fidelity": found.searched.value if found.searched else None,
        "n": (shown + 1).tolist(),
        "seconds": (found.at[at[shown]] - job.created_at).tolist(),
        "hypervolume": trace[shown].tolist(),
        "front_fidelity": FIDELITIES[trusted].value if trusted >= 0 else None,
        "front": {m: _plain(found.metrics[m][on]) for m in metrics},
        "kinds": {m: kinds_of(m, on, trials, found) for m in metrics},
        "numbers": found.number[on].tolist(),
    }


def _ordered(options: Any) -> list[int]:
    """Positions of `options`, rising where they are numbers."""
    numbers = all(isinstance(o, (int, float)) for o in options)
    return sorted(range(len(options)), key=lambda i: options[i] if numbers else str(options[i]))


def _placed(codes: NDArray[np.int64], ordered: list[int]) -> list[int]:
    places = np.empty(len(ordered) + 1, dtype=np.int64)
    places[ordered] = np.arange(len(ordered))
    places[-1] = -1
    return places[codes].tolist()


def _plain(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else v for v in values.tolist()]


def _stage(name: str) -> int:
    """Its number, so that `stage2` comes before `stage10`; 0 for decisions of no stage."""
    match = re.match(r"stage(\d+)\.", name)
    return int(match[1]) if match else 0


def trials_of(store: TrialStore, numbers: Sequence[int]) -> list[Trial]:
    """The trials of these numbers, in this order."""
    parts = range(0, len(numbers), MOST_NUMBERS)
    pages = (store.page(TrialQuery(numbers=numbers[i : i + MOST_NUMBERS])) for i in parts)
    found = {trial.number: trial for page in pages for trial in page}
    return [found[number] for number in numbers]
