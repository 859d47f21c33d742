"""Which job is driven when: priorities, a fair share between owners, and drivers that die."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nas.core import Job, JobQuery, JobState, JobStore, NasError
from nas.driver import is_gone
from nas.service import monitoring
from nas.service.launchers import Launcher

logger = logging.getLogger(__name__)
ACTIVE = (JobState.CREATED, JobState.RUNNING)
MOST_DEATHS = 5
BACKOFF_SECONDS = 2.0
LATER_SECONDS = 5.0
START_SECONDS = 60.0


@dataclass
class _Attempts:
    """Drivers started for one job: how many died in a row without progress, when to try again.

    Attributes:
        fence: of the job when the last one was started; the driver raises it.
        sequence: of the job's last event then.
    """

    started: float
    fence: int
    sequence: int
    deaths: int = 0
    not_before: float = 0.0
    is_over: bool = False


class Supervisor:
    """Starts a driver for every job that should run, and starts it again when it dies.

    All it must remember is in the store: leases tell which jobs are driven, whoever drives them.

    Args:
        store: of the jobs.
        launcher: starts drivers.
        running_jobs: driven at once.
        running_per_owner: of them, at most so many of one owner.
        turn_seconds: between two looks.
    """

    def __init__(
        self,
        store: JobStore,
        launcher: Launcher,
        running_jobs: int,
        running_per_owner: int,
        turn_seconds: float = 0.5,
    ) -> None:
        self._store = store
        self._launcher = launcher
        self._running_jobs = running_jobs
        self._running_per_owner = running_per_owner
        self._turn_seconds = turn_seconds
        self._attempts: dict[str, _Attempts] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        """Look after jobs from now on, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking, then let the launcher stop its drivers."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._launcher.close()

    def turn(self, now: float) -> None:
        """Look once: note deaths, start what should run, share workers out."""
        active = self._store.jobs(JobQuery(states=ACTIVE))
        driven, waiting = list[Job](), list[Job]()
        for job in active:
            (driven if self._is_driven(job, now) else waiting).append(job)
        for job in waiting:
            self._note_death(job, now)
        ready = [job for job in waiting if self._may_start(job, now)]
        for job in chosen(ready, driven, self._running_jobs, self._running_per_owner):
            self._start(job, now)
            driven.append(job)
        self._share(driven)
        kept = {job.job_id for job in active}
        self._attempts = {k: v for k, v in self._attempts.items() if k in kept}

    def _run(self) -> None:
        while not self._stop.wait(self._turn_seconds):
            try:
                self.turn(time.time())
            except NasError as error:
                logger.warning("the supervisor waits: %s", error)
            except Exception:
                logger.exception("the supervisor met an error and goes on")

    def _is_driven(self, job: Job, now: float) -> bool:
        attempt = self._attempts.get(job.job_id)
        if job.is_driven(now) and not (job.driver and is_gone(job.driver)):
            return True
        if attempt is None or not self._launcher.is_alive(job.job_id):
            return False
        starting = job.fence == attempt.fence  # it has not taken the lease yet
        return starting and now - attempt.started < START_SECONDS

    def _note_death(self, job: Job, now: float) -> None:
        attempt = self._attempts.get(job.job_id)
        if attempt is None or attempt.is_over:
            return
        attempt.is_over = True
        monitoring.DEATHS.inc()
        if self._store.trial_store(job.job_id).last_sequence() > attempt.sequence:
            attempt.deaths = 0
        attempt.deaths += 1
        attempt.not_before = now + BACKOFF_SECONDS * 2 ** min(attempt.deaths - 1, 5)
        logger.warning("the driver of job %s died (%d)", job.job_id, attempt.deaths)
        if attempt.deaths >= MOST_DEATHS:
            message = f"its driver died {attempt.deaths} times; driver.log in its folder tells more"
            self._store.set_state(job.job_id, JobState.FAILED, message)

    def _may_start(self, job: Job, now: float) -> bool:
        if job.wanted is not None:
            self._store.ask_for(job.job_id, job.wanted)  # nobody drives it: it is so at once
            return False
        attempt = self._attempts.get(job.job_id)
        return attempt is None or (attempt.not_before <= now and attempt.deaths < MOST_DEATHS)

    def _start(self, job: Job, now: float) -> None:
        before = self._attempts.get(job.job_id)
        deaths = before.deaths if before else 0
        sequence = self._store.trial_store(job.job_id).last_sequence()
        attempt = _Attempts(now, job.fence, sequence, deaths)
        self._attempts[job.job_id] = attempt
        logger.info("starting a driver for job %s (%s)", job.job_id, job.name)
        try:
            self._launcher.launch(job)
            monitoring.STARTS.inc()
        except NasError as error:
            attempt.is_over, attempt.not_before = True, now + LATER_SECONDS
            self._store.set_state(job.job_id, JobState.CREATED, f"waits: {error}")

    def _share(self, driven: Sequence[Job]) -> None:
        share = shares(driven, self._launcher.workers())
        for job in driven:
            if job.workers != share[job.job_id]:
                self._store.give_workers(job.job_id, share[job.job_id])


def chosen(
    waiting: Sequence[Job], driven: Sequence[Job], running_jobs: int, running_per_owner: int
) -> list[Job]:
    """Jobs to start now: by priority, then of whoever runs fewest, then the oldest."""
    running = Counter(job.owner for job in driven)
    left, found = list(waiting), list[Job]()
    while left and len(driven) + len(found) < running_jobs:
        best = min(left, key=lambda j: (-j.priority, running[j.owner], j.created_at, j.job_id))
        left.remove(best)
        if running[best.owner] < running_per_owner:
            running[best.owner] += 1
            found.append(best)
    return found


def shares(driven: Sequence[Job], n_workers: int) -> dict[str, int]:
    """Workers by job id: even, at least one, what is left over to the highest priorities."""
    if not driven:
        return {}
    each, over = divmod(n_workers, len(driven))
    order = sorted(driven, key=lambda j: (-j.priority, j.created_at, j.job_id))
    return {job.job_id: max(1, each + (i < over)) for i, job in enumerate(order)}
