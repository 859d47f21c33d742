"""What a job can take over from earlier jobs of the same store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.core import (
    EventKind,
    Fidelity,
    InvalidInputError,
    Job,
    JobStore,
    SearchSpace,
    SearchStrategy,
    Trial,
)
from nas.problem import Problem
from workers.machine import processor_name

MIN_LESSONS = 20
"""Fewer trials of another job teach a predictor too little."""

MAX_LESSONS, MAX_TEACHERS = 2000, 10


@dataclass(frozen=True)
class Reuse:
    """What earlier jobs give to a new one.

    Attributes:
        scores: by job id, completed trials that mean what this job's own would mean.
        teacher: id of the job whose trials only teach the predictor; None where there is none.
        lessons: those trials: other data, fidelity or weights, all candidates of this space.
    """

    scores: Mapping[str, Sequence[Trial]] = field(default_factory=dict)
    teacher: str | None = None
    lessons: Sequence[Trial] = ()

    def said(self) -> list[str]:
        """What is reused, a line a job, for people."""
        lines = [f"{len(trials)} scores of job {job}" for job, trials in self.scores.items()]
        if self.teacher is not None:
            lines.append(f"{len(self.lessons)} trials of job {self.teacher}, to learn from")
        return lines

    def teach(self, strategy: SearchStrategy) -> None:
        """Tell a fresh strategy."""
        strategy.learn_from(self.lessons)
        for trials in self.scores.values():
            strategy.recall(trials)


def reuse(store: JobStore, job: Job, problem: Problem) -> Reuse:
    """What `job` takes over; nothing where its specification says `warm_start: false`."""
    if not problem.spec.warm_start:
        return Reuse()
    scores = earlier_scores(store, job, problem)
    teacher, lessons = best_lessons(store, job, problem, without=set(scores))
    return Reuse(scores, teacher, lessons)


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
    for other in _before(store, job):
        if not _alike(other.spec, job.spec):
            continue
        for trial in _finished(store, other, job.created_at):
            if trial.candidate is None or trial.candidate.key in seen:
                continue
            if _usable(trial, version, problem.spec.goals.metrics):
                seen.add(trial.candidate.key)
                found.setdefault(other.job_id, []).append(trial)
    return found


def best_lessons(
    store: JobStore, job: Job, problem: Problem, without: set[str]
) -> tuple[str | None, list[Trial]]:
    """The earlier job of the same family that teaches most, and the trials it teaches with.

    Of the newest ten, that is the one on the same data before others, then the one with most trials
    that this space can express; at least 20, and the last 2,000 at most.
    """
    best: tuple[bool, int] = (False, MIN_LESSONS - 1)
    found: tuple[str | None, list[Trial]] = (None, [])
    family = problem.spec.space.name
    kin = [o for o in _before(store, job) if o.spec.get("space", {}).get("name") == family]
    for other in kin[-MAX_TEACHERS:]:
        if other.job_id in without:
            continue
        trials = _lessons(_finished(store, other, job.created_at), problem.family.space)
        same = all(other.spec.get(part) == job.spec.get(part) for part in ("data", "data_limit"))
        if len(trials) >= MIN_LESSONS and (same, len(trials)) > best:
            best, found = (same, len(trials)), (other.job_id, trials[-MAX_LESSONS:])
    return found


def _lessons(trials: Iterator[Trial], space: SearchSpace) -> list[Trial]:
    """The search's own scores, trained or inherited, whichever are more, of candidates in space."""
    by_fidelity: dict[Fidelity, list[Trial]] = {Fidelity.TRAINED: [], Fidelity.INHERITED: []}
    for trial in trials:
        for fidelity, kept in by_fidelity.items():
            if trial.scores(fidelity) and _expressible(trial, space):
                kept.append(trial)
    return max(by_fidelity.values(), key=len)


def _expressible(trial: Trial, space: SearchSpace) -> bool:
    try:
        return trial.candidate is not None and space.row(trial.candidate) is not None
    except InvalidInputError:
        return False


def _before(store: JobStore, job: Job) -> Iterator[Job]:
    """Jobs submitted before `job`, oldest first."""
    for other in reversed(store.jobs()):
        if other.job_id != job.job_id and other.created_at <= job.created_at:
            yield other


def _finished(store: JobStore, other: Job, until: float) -> Iterator[Trial]:
    """Trials of another job that had finished at a time, in that order."""
    for event in store.trial_store(other.job_id).events():
        if event.kind is EventKind.FINISHED and event.at <= until:
            yield event.trial


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
    predicted = any(trial.provenance.get(m, {}).get("kind") == "predicted" for m in metrics)
    return here and not predicted and all(m in trial.metrics for m in metrics)
