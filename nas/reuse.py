"""What a job can take over from earlier jobs of the same store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas.core import EventKind, Fidelity, Job, JobStore, Trial
from nas.problem import Problem
from workers.machine import processor_name


def earlier_scores(store: JobStore, job: Job, problem: Problem) -> dict[str, list[Trial]]:
    """By earlier job's id: completed scores that this job would only repeat.

    They were given by the same weights (space, data, settings, seed and epochs of the supernet)
    and hold every metric this job is after; latencies were measured on this processor. Only what
    was finished when the job was submitted counts, so that a resumed job finds the same.
    """
    version = problem.supernet_version
    if version is None:
        return {}
    found: dict[str, list[Trial]] = {}
    seen: set[str] = set()
    for other in reversed(store.jobs()):
        if other.job_id == job.job_id or other.created_at > job.created_at:
            continue
        if not _alike(other.spec, job.spec):
            continue
        for event in store.trial_store(other.job_id).events():
            trial = event.trial
            in_time = event.kind is EventKind.FINISHED and event.at <= job.created_at
            if not in_time or trial.candidate is None or trial.candidate.key in seen:
                continue
            if _usable(trial, version, problem.spec.goals.metrics):
                seen.add(trial.candidate.key)
                found.setdefault(other.job_id, []).append(trial)
    return found


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two specifications could share a supernet: a cheap look before reading trials."""
    parts = ("data", "data_limit", "space", "supernet", "seed")
    return all(one.get(part) == other.get(part) for part in parts)


def _usable(trial: Trial, version: str, metrics: Sequence[str]) -> bool:
    if not trial.scores(Fidelity.INHERITED):
        return False
    if trial.provenance.get("supernet", {}).get("version") != version:
        return False
    timed = trial.provenance.get("latency_ms", {}).get("conditions", {}).get("processor")
    here = timed is None or timed == processor_name()
    return here and all(m in trial.metrics for m in metrics)
