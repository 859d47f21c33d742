"""Sorting, filtering and paging of trials, on columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import Fidelity, Goals, InvalidInputError, Trial, TrialQuery, TrialState, TrialStore
from nas.core.trial import MARKS, TrainShared
from nas.service.outcomes import Outcomes
from nas.service.views import trials_of

CONDITION = re.compile(r"\s*([A-Za-z][\w.@-]*)\s*(<=|>=|!=|=|<|>)\s*(\S+)\s*")
EXPECTED = "a metric or decision, one of <= >= != = < >, and a value: accuracy>=0.9"
COMPARE = {
    "<=": np.less_equal,
    ">=": np.greater_equal,
    "<": np.less,
    ">": np.greater,
    "=": np.equal,
    "!=": np.not_equal,
}


@dataclass(frozen=True)
class Wanted:
    """Which trials, and in which order.

    Attributes:
        sort: `number`, `seconds`, `finished`, or a metric or decision.
        descending: largest first; what a trial lacks is last either way.
        states: any for ().
        fidelities: any for ().
        text: a trial's number, or a part of its candidate's key or error.
        where: conditions that all must hold.
        front: only what is on the front of its fidelity now.
    """

    sort: str
    descending: bool
    states: tuple[TrialState, ...]
    fidelities: tuple[Fidelity, ...]
    text: str
    where: tuple[str, ...]
    front: bool

    @property
    def is_plain(self) -> bool:
        """Whether it is every trial by number."""
        narrowed = self.states or self.fidelities or self.text or self.where or self.front
        return self.sort == "number" and not narrowed


def newest(store: TrialStore, descending: bool, offset: int, limit: int) -> dict[str, Any]:
    """A page of all trials by number, from the store alone: numbers have no gaps."""
    total = sum(store.counts().values())
    after = total - offset if descending else offset - 1
    if descending and offset >= total:
        return {"total": total, "items": []}
    query = TrialQuery(after=None if after < 0 else after, newest_first=descending, limit=limit)
    return {"total": total, "items": [row_of(trial) for trial in store.page(query)]}


def page(
    store: TrialStore, found: Outcomes, goals: Goals, wanted: Wanted, offset: int, limit: int
) -> dict[str, Any]:
    """A page of the trials that `wanted` tells; running ones where nothing but states is asked.

    Raises:
        InvalidInputError: a sort key or condition that cannot be read.
    """
    kept = np.flatnonzero(_mask(found, goals, wanted))
    keys = _sort_keys(found, wanted.sort)[kept]
    order = np.argsort(-keys if wanted.descending else keys, kind="stable")
    kept = kept[order]
    running: list[Trial] = []
    narrowed = wanted.fidelities or wanted.text or wanted.where or wanted.front
    if not narrowed and (not wanted.states or TrialState.RUNNING in wanted.states):
        running = list(store.page(TrialQuery(states=(TrialState.RUNNING,), limit=1000)))
    first = running[offset : offset + limit]
    start = max(offset - len(running), 0)
    rest = kept[start : start + limit - len(first)]
    shown = [*first, *trials_of(store, found.number[rest].tolist())]
    return {"total": len(kept) + len(running), "items": [row_of(trial) for trial in shown]}


def row_of(trial: Trial) -> dict[str, Any]:
    """What a table shows of a trial; `kinds` tells of metrics that nobody measured."""
    candidate = trial.candidate
    kinds = {metric: trial.kind(metric) for metric in trial.metrics}
    return {
        "number": trial.number,
        "state": trial.state.value,
        "fidelity": trial.fidelity.value if trial.fidelity else None,
        "effort": trial.effort,
        "key": candidate.key if candidate else None,
        "method": trial.task.method if isinstance(trial.task, TrainShared) else None,
        "metrics": dict(trial.metrics),
        "kinds": {metric: kind for metric, kind in kinds.items() if kind in MARKS},
        "values": dict(candidate.values) if candidate else {},
        "error": trial.error,
        "seconds": trial.seconds,
    }


def _mask(found: Outcomes, goals: Goals, wanted: Wanted) -> NDArray[np.bool_]:
    mask = np.ones(len(found), dtype=np.bool_)
    if wanted.states:
        completed = TrialState.COMPLETED in wanted.states
        failed = TrialState.FAILED in wanted.states
        mask &= (found.completed & completed) | (~found.completed & failed)
    if wanted.fidelities:
        mask &= np.isin(found.fidelity, [f.rank for f in wanted.fidelities])
    if wanted.front:
        entered, left = found.history(goals)
        mask &= entered & (left == len(found))
    if wanted.text:
        mask &= _matches(found, wanted.text.strip().lower())
    for condition in wanted.where:
        mask &= _holds(found, condition)
    return mask


def _matches(found: Outcomes, text: str) -> NDArray[np.bool_]:
    hits = np.fromiter((text in key.lower() for key in found.keys), np.bool_, len(found))
    for i, error in found.errors.items():
        hits[i] |= text in error.lower()
    return hits | (found.number == int(text)) if text.isdigit() and len(text) < 10 else hits


def _holds(found: Outcomes, condition: str) -> NDArray[np.bool_]:
    match = CONDITION.fullmatch(condition)
    if match is None:
        raise InvalidInputError("where", condition, EXPECTED)
    name, relation, text = match.groups()
    compare = COMPARE[relation]
    if name in found.decisions and not _numeric(found, name):
        same = [str(option).lower() == text.lower() for option in found.options[name]]
        if relation not in ("=", "!="):
            raise InvalidInputError("where", condition, f"{name}= or {name}!=")
        hit = np.append(np.array(same, dtype=np.bool_), False)[found.decisions[name]]
        return hit if relation == "=" else ~hit & (found.decisions[name] >= 0)
    try:
        bound = float(text)
    except ValueError:
        raise InvalidInputError("where", condition, "a number after the sign") from None
    values = _sort_keys(found, name)
    result: NDArray[np.bool_] = compare(values, bound) & ~np.isnan(values)
    return result


def _sort_keys(found: Outcomes, name: str) -> NDArray[np.float64]:
    """`(n,)` numbers to sort by, nan where a trial has none."""
    own: Mapping[str, NDArray[Any]] = {
        "number": found.number,
        "seconds": found.seconds,
        "finished": found.at,
        "fidelity": found.fidelity,
    }
    if name in own:
        return own[name].astype(np.float64)
    if name in found.metrics:
        return found.metrics[name]
    if name not in found.decisions:
        names = [*own, *sorted(found.metrics), *found.decisions]
        raise InvalidInputError("column", name, f"one of {', '.join(names)}"[:400])
    options = found.options[name]
    if _numeric(found, name):
        values = [float(option) for option in options]
    else:
        ranked = sorted(options, key=str)
        values = [float(ranked.index(option)) for option in options]
    return np.array([*values, np.nan])[found.decisions[name]]


def _numeric(found: Outcomes, name: str) -> bool:
    return all(isinstance(option, (int, float)) for option in found.options[name])
