"""Driving a job: its lease, the thread that keeps it, and waiting for a database that is away."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, repeat
from pathlib import Path

from nas.core import (
    ClusterLostError,
    ConflictError,
    Job,
    JobState,
    JobStore,
    Lease,
    NasError,
    Report,
    StoreError,
)

logger = logging.getLogger("nas.driver")

LEASE_SECONDS = 30.0
"""Until others may take a job whose driver has not been heard of."""
RENEW_SECONDS = 10.0
LOOK_SECONDS = 2.0
"""How often a driver looks what is wanted of it."""
OUTAGE_SECONDS = 3600.0
"""The longest that a database is waited for."""
DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0)
LONGEST_DELAY = 10.0
MAX_FUTILE = 3
"""Times in a row that a write may be refused by a database that is there."""


class Stopped(Exception):  # noqa: N818 (it was asked for)
    """The driver was asked to pause or cancel its job."""

    def __init__(self, state: JobState) -> None:
        super().__init__(state)
        self.state = state


class Driver:
    """Holds the lease of one job; `driving` makes and ends it.

    A thread renews the lease and looks at the job. That the lease is lost shows at the next
    `check`, and at the latest when the store refuses a write.
    """

    def __init__(self, store: JobStore, lease: Lease, say: Report) -> None:
        self.lease = lease
        self._store = store
        self._say = say
        self._job = store.job(lease.job_id)
        self._lost: NasError | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="nas lease", daemon=True)
        self._thread.start()

    @property
    def workers(self) -> int | None:
        """Trials the job may run at once now."""
        return self._job.workers

    def check(self) -> None:
        """Return if the job is to go on.

        Raises:
            Stopped: it is to be paused or cancelled.
            ConflictError: somebody else took it.
            NotFoundError: it was deleted.
        """
        if self._lost is not None:
            raise self._lost
        if self._job.wanted is not None:
            raise Stopped(self._job.wanted)

    def through_outages(self, attempt: Callable[[], None], progress: Callable[[], int]) -> None:
        """Call `attempt` until it ends without the database going away meanwhile.

        Args:
            attempt: goes on from what is stored.
            progress: grows when attempts achieve anything.

        Raises:
            StoreError: the database was away for too long, or is there and refuses again and again.
        """
        futile, reached = 0, -1
        while True:
            try:
                return attempt()
            except StoreError as error:
                before, reached = reached, progress()
                self._tell_waiting(error)
                time.sleep(DELAYS[0])
                waited = self._patiently(self._renew)
                futile = 0 if waited or reached > before else futile + 1
                if futile == MAX_FUTILE:
                    raise
                self._say("the database is back")

    def end(self, state: JobState, message: str = "") -> None:
        """Release the lease, however long the database is away.

        Raises:
            ConflictError: it was lost.
            StoreError: the database was away for too long.
        """
        self.stop_renewing()
        self._patiently(lambda: self._store.release(self.lease, state, message))

    def try_to_end(self, state: JobState, message: str) -> None:
        """Release the lease if that is possible now; else it runs out."""
        self.stop_renewing()
        try:
            self._store.release(self.lease, state, message)
        except NasError as error:
            logger.warning("job %s is not released: %s", self.lease.job_id, error)

    def stop_renewing(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join(LOOK_SECONDS)

    def _keep(self) -> None:
        due = time.monotonic() + RENEW_SECONDS
        while not self._done.wait(LOOK_SECONDS):
            try:
                job = self._store.job(self.lease.job_id)
                if time.monotonic() >= due or not self._is_ours(job):
                    job = self._store.renew(self.lease, LEASE_SECONDS)
                    due = time.monotonic() + RENEW_SECONDS
                self._job = job
            except StoreError as error:
                logger.warning("job %s: lease not renewed: %s", self.lease.job_id, error)
            except NasError as error:
                self._lost = error
                return

    def _is_ours(self, job: Job) -> bool:
        return (job.driver, job.fence) == (self.lease.driver, self.lease.fence)

    def _renew(self) -> None:
        self._job = self._store.renew(self.lease, LEASE_SECONDS)

    def _patiently(self, call: Callable[[], object]) -> bool:
        """Call until the database is there; returns whether that took waiting."""
        until = time.monotonic() + OUTAGE_SECONDS
        for delay in chain(DELAYS, repeat(LONGEST_DELAY)):
            try:
                call()
            except StoreError as error:
                if time.monotonic() > until:
                    raise
                self._tell_waiting(error)
                time.sleep(delay)
            else:
                return delay != DELAYS[0]
        raise AssertionError("repeat never ends")

    def _tell_waiting(self, error: StoreError) -> None:
        self._say(f"waiting for the database: {error}")


@contextmanager
def driving(store: JobStore, job_id: str, say: Report | None = None) -> Iterator[Driver]:
    """Hold a job's lease while the block runs, and keep its state true to what happens there.

    `Stopped` ends here: the job is paused or cancelled, as was asked for. When the lease is lost,
    or the database is away at an interrupt, nothing is changed.

    Args:
        store: where the job is.
        job_id: of the job.
        say: is told of outages; they are logged in any case.

    Raises:
        ConflictError: another driver holds the job, or took it meanwhile; or it is final.
        StoreError: the database was away for too long.
        ClusterLostError: raised in the block; the job is interrupted.
    """

    def tell(line: str) -> None:
        logger.warning("job %s: %s", job_id, line)
        if say is not None:
            say(line)

    driver = Driver(store, take(store, job_id), tell)
    try:
        yield driver
        outcome = JobState.COMPLETED, ""
    except Stopped as stopped:
        outcome = stopped.state, f"{stopped.state} on request"
    except KeyboardInterrupt:
        driver.try_to_end(JobState.INTERRUPTED, "stopped by the user; resume goes on")
        raise
    except ClusterLostError as error:
        driver.try_to_end(JobState.INTERRUPTED, f"{error}; resume goes on")
        raise
    except BaseException as error:
        driver.try_to_end(JobState.FAILED, f"{type(error).__name__}: {error}")
        raise
    driver.end(*outcome)


def take(store: JobStore, job_id: str) -> Lease:
    """This process's lease of a job; a driver that died on this machine is not waited for.

    Raises:
        ConflictError: another driver holds the job, or it is final.
    """
    try:
        return store.acquire(job_id, driver_id(), LEASE_SECONDS)
    except ConflictError:
        job = store.job(job_id)
        if job.driver is None or not is_gone(job.driver):
            raise
        return store.acquire(job_id, driver_id(), LEASE_SECONDS, over=job.fence)


def driver_id() -> str:
    """`host:pid:place:start` of this process.

    The place tells apart boots and process namespaces, and the start processes, that give the
    same number to two.
    """
    return f"{socket.gethostname()}:{os.getpid()}:{_place()}:{_start_of(os.getpid())}"


def is_gone(driver: str) -> bool:
    """Whether a driver ran on this machine and does so no more; False where that is unknown."""
    host, _, rest = driver.partition(":")
    match rest.split(":"):
        case [pid, place, start] if pid.isdigit():
            now = _start_of(int(pid))
            here = (host, place) == (socket.gethostname(), _place())
            return here and (now is None or (now != "" and start != "" and now != start))
        case _:
            return False


@cache
def _place() -> str:
    """A digest of this boot and this namespace of processes; "" where they cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256((boot + os.readlink("/proc/self/ns/pid")).encode()).hexdigest()[:8]
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process started, in ticks since boot; None if there is none, "" if unknown."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # somebody else's, but there
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in ("Z", "X") else fields[18]
    return ""
