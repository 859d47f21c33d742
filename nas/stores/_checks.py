"""Checks that every store makes before it writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nas.core import ConflictError, InvalidInputError, Job, NotFoundError, Trial, TrialState

LONGEST = 200
"""Characters of a name, an owner, a key or a driver."""
CANCELLED = "cancelled"
"""The error of a trial whose job was cancelled."""


def require_finished(trial: Trial) -> None:
    """Refuse a trial that is still running, or metrics that are not finite.

    Raises:
        ConflictError: still running.
        InvalidInputError: a metric is nan or infinite.
    """
    if trial.state is TrialState.RUNNING:
        raise ConflictError(f"trial {trial.number} is still running: complete or fail it first")
    for name, value in trial.metrics.items():
        if not math.isfinite(value):
            raise InvalidInputError(f"trial {trial.number} metric {name}", value, "a finite number")


def only_match(job_id: str, matches: Sequence[str]) -> str:
    """The one id among `matches`.

    Raises:
        NotFoundError: none.
        InvalidInputError: several.
    """
    if job_id in matches:
        return job_id
    if not matches:
        raise NotFoundError("job", job_id)
    if len(matches) > 1:
        raise InvalidInputError("job", job_id, f"one of {', '.join(sorted(matches))}")
    return matches[0]


def require_short(field: str, text: str) -> str:
    """`text`, if it is short enough to be kept.

    Raises:
        InvalidInputError: it is not.
    """
    if len(text) > LONGEST:
        raise InvalidInputError(field, f"{text[:20]}…", f"at most {LONGEST} characters")
    return text


def require_same(job: Job, spec: Mapping[str, Any]) -> Job:
    """`job`, stored earlier under the same key, if its specification is this one.

    Raises:
        ConflictError: it is another.
    """
    one, other = (json.dumps(dict(s), sort_keys=True) for s in (job.spec, spec))
    if one != other:
        raise ConflictError(f"job {job.job_id} has this key and another specification")
    return job


def require_new_token(name: str, owner: str) -> None:
    """Refuse a token of nobody, or with names too long.

    Raises:
        InvalidInputError: it is one.
    """
    if not owner:
        raise InvalidInputError("owner", owner, "a name")
    require_short("owner", owner)
    require_short("name", name)
