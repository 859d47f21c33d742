"""JSON forms of jobs, trials and events, as they travel between server and clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.core.job import Job, JobState
from nas.core.trial import (
    Event,
    EventKind,
    Trial,
    TrialState,
    task_from_json,
    task_to_json,
)


def job_to_json(job: Job) -> dict[str, Any]:
    """What a client may know of a job; `job_from_json` reads it back."""
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state.value,
        "message": job.message,
        "created_at": job.created_at,
        "owner": job.owner,
        "priority": job.priority,
        "wanted": None if job.wanted is None else job.wanted.value,
        "workers": job.workers,
        "spec": dict(job.spec),
    }


def job_from_json(body: Mapping[str, Any]) -> Job:
    """Read what `job_to_json` wrote; further names are ignored."""
    wanted = body.get("wanted")
    return Job(
        job_id=body["job_id"],
        name=body["name"],
        spec=body["spec"],
        state=JobState(body["state"]),
        message=body["message"],
        created_at=body["created_at"],
        owner=body.get("owner", ""),
        priority=body.get("priority", 0),
        wanted=None if wanted is None else JobState(wanted),
        workers=body.get("workers"),
    )


def trial_to_json(trial: Trial) -> dict[str, Any]:
    """A JSON object that `trial_from_json` reads back to an equal trial."""
    return {
        "number": trial.number,
        "state": trial.state.value,
        "task": task_to_json(trial.task),
        "metrics": dict(trial.metrics),
        "provenance": dict(trial.provenance),
        "artifacts": dict(trial.artifacts),
        "error": trial.error,
        "seconds": trial.seconds,
    }


def trial_from_json(body: Mapping[str, Any]) -> Trial:
    """Read what `trial_to_json` wrote."""
    return Trial(
        number=body["number"],
        task=task_from_json(body["task"]),
        state=TrialState(body["state"]),
        metrics=body["metrics"],
        provenance=body["provenance"],
        artifacts=body["artifacts"],
        error=body["error"],
        seconds=body["seconds"],
    )


def event_to_json(event: Event) -> dict[str, Any]:
    """A JSON object that `event_from_json` reads back to an equal event."""
    return {
        "sequence": event.sequence,
        "kind": event.kind.value,
        "at": event.at,
        "trial": trial_to_json(event.trial),
    }


def event_from_json(body: Mapping[str, Any]) -> Event:
    """Read what `event_to_json` wrote."""
    return Event(
        body["sequence"], EventKind(body["kind"]), trial_from_json(body["trial"]), body["at"]
    )
