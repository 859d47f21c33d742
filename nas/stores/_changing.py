"""Job stores whose jobs change by transitions, each applied in one step."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from nas.core import Job, JobState, JobStore, Lease
from nas.stores import _transitions as transitions


class ChangingStore(JobStore):
    """What every store does alike: it leaves to transitions what a job may become."""

    @abstractmethod
    def _change(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        """Put what `transition` makes of a job in its place, unless it raises; gives that.

        Nobody else changes the job meanwhile. A job that is cancelled takes its running trials and
        its open work with it.

        Raises:
            NotFoundError: no such job.
        """

    def set_state(self, job_id: str, state: JobState, message: str = "") -> Job:
        """Move a job to `state`."""
        return self._change(job_id, lambda job: transitions.moved(job, state, message))

    def ask_for(self, job_id: str, wanted: JobState | None) -> Job:
        """Ask for a job to be paused or cancelled; None takes the wish back."""
        return self._change(job_id, lambda job: transitions.asked(job, wanted, time.time()))

    def give_workers(self, job_id: str, n: int | None) -> Job:
        """Let a job run at most `n` trials at once."""
        return self._change(job_id, lambda job: transitions.with_workers(job, n))

    def extend(self, job_id: str, spec: Mapping[str, Any]) -> Job:
        """Replace the specification of a job that nobody drives."""
        kept = copy.deepcopy(dict(spec))
        return self._change(job_id, lambda job: transitions.extended(job, kept, time.time()))

    def acquire(self, job_id: str, driver: str, seconds: float, over: int | None = None) -> Lease:
        """Take a job for `seconds`."""
        job = self._change(
            job_id, lambda job: transitions.acquired(job, driver, seconds, over, time.time())
        )
        return Lease(job_id, driver, job.fence)

    def renew(self, lease: Lease, seconds: float) -> Job:
        """Hold a lease for `seconds` from now on."""
        return self._change(
            lease.job_id, lambda job: transitions.renewed(job, lease, seconds, time.time())
        )

    def release(self, lease: Lease, state: JobState, message: str = "") -> Job:
        """End a lease and move the job to `state`."""
        return self._change(
            lease.job_id, lambda job: transitions.released(job, lease, state, message)
        )
