"""Checks that every store makes before it writes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nas.core import ConflictError, InvalidInputError, NotFoundError, Trial, TrialState


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
