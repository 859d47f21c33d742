"""How a job is doing, as metrics of a Ray cluster: on its dashboard, in Prometheus and Grafana."""

from __future__ import annotations

import time

from ray.util.metrics import Gauge

from nas.core import Event, EventKind, Goals, Trial, TrialState, standing_of

SECONDS_BETWEEN = 2.0
TAGS = ("job", "name")


class JobMetrics:
    """Listens to a job's events and sets its gauges, at most every two seconds.

    Ray exports them as `ray_nas_job_trials`, `ray_nas_job_failures`, `ray_nas_job_front`,
    `ray_nas_job_hypervolume` (of the box that completed trials span) and, by objective,
    `ray_nas_job_best`.

    Args:
        job_id: of the job.
        name: of the job, for people.
        goals: of the job.
    """

    def __init__(self, job_id: str, name: str, goals: Goals) -> None:
        self._goals = goals
        self._done: list[Trial] = []
        self._due = 0.0
        tags = {"job": job_id, "name": name}
        self._trials = self._gauge("nas_job_trials", "Finished trials", tags)
        self._failures = self._gauge("nas_job_failures", "Failed trials", tags)
        self._front = self._gauge("nas_job_front", "Members of the front", tags)
        self._volume = self._gauge("nas_job_hypervolume", "Share of the spanned box", tags)
        self._best = Gauge("nas_job_best", "Best feasible value", (*TAGS, "objective"))
        self._best.set_default_tags(tags)

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event.kind is EventKind.STARTED:
            return
        self._done.append(event.trial)
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Set the gauges now."""
        self._due = time.monotonic() + SECONDS_BETWEEN
        self._trials.set(len(self._done))
        self._failures.set(sum(t.state is TrialState.FAILED for t in self._done))
        found = standing_of(self._done, self._goals)
        self._front.set(found.n_front)
        self._volume.set(found.hypervolume)
        for metric, value in found.best.items():
            self._best.set(value, {"objective": metric})

    @staticmethod
    def _gauge(name: str, about: str, tags: dict[str, str]) -> Gauge:
        gauge = Gauge(name, about, TAGS)
        gauge.set_default_tags(tags)
        return gauge
