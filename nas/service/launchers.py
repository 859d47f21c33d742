"""How a job's driver is started: as a process of this machine, or as a Ray job of a cluster."""

from __future__ import annotations

import contextlib
import math
import secrets
import shlex
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.core import Job, NasError
from workers.machine import detached, total_memory, usable_cpus

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient
    from ray.util.state.common import NodeState

LOG = "driver.log"
NAS_JOB = "nas_job"
"""Whose value among a Ray job's metadata is the id of the job it drives."""
CLOSE_SECONDS = 20.0
FRESH_SECONDS = 10.0


class LaunchError(NasError, RuntimeError):
    """A driver could not be started; says what is waited for."""


@dataclass(frozen=True)
class Node:
    """A machine that runs trials.

    Attributes:
        name: for people.
        n_cpus: for trials.
        n_gpus: for trials.
        memory_bytes: for trials; None where nobody told.
    """

    name: str
    n_cpus: int
    n_gpus: int
    memory_bytes: int | None


class Launcher(ABC):
    """Starts drivers, and knows whether they still run."""

    @abstractmethod
    def launch(self, job: Job) -> None:
        """Start a driver for `job`; it takes the job's lease by itself.

        Raises:
            LaunchError: not now; later it may work.
        """

    @abstractmethod
    def is_alive(self, job_id: str) -> bool:
        """Whether a driver started here for that job is still there."""

    @abstractmethod
    def nodes(self) -> Sequence[Node]:
        """Living machines as `workers` last found them; asks nobody."""

    @abstractmethod
    def workers(self) -> int:
        """Trials that may run at once over all jobs."""

    @abstractmethod
    def page(self, job_id: str) -> str | None:
        """Where people see a job's newest driver, its logs and tasks; None where they do not."""

    @abstractmethod
    def close(self) -> None:
        """Stop the drivers this launcher started, so that their jobs can be resumed."""


class Processes(Launcher):
    """Drivers as processes of this machine, each with as many more as it may run trials at once.

    Args:
        home: the workspace.
        store_url: of its store; reaches drivers by the environment, as it may hold a password.
        n_workers: trials at once over all jobs; None for one per CPU.
    """

    def __init__(self, home: Path, store_url: str, n_workers: int | None = None) -> None:
        self._home = home
        self._store_url = store_url
        self._n_workers = n_workers or usable_cpus()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, job: Job) -> None:
        """Start a driver; its output goes to `driver.log` in the job's folder."""
        folder = self._home / job.job_id
        folder.mkdir(parents=True, exist_ok=True)
        command = driver_command(
            sys.executable, job.job_id, self._home, "local", "--workers", str(self._n_workers)
        )
        self._running[job.job_id] = detached(command, folder / LOG, NAS_STORE=self._store_url)

    def is_alive(self, job_id: str) -> bool:
        """Whether its process has not ended."""
        process = self._running.get(job_id)
        return process is not None and process.poll() is None

    def nodes(self) -> Sequence[Node]:
        """This machine."""
        return (Node(socket.gethostname(), self._n_workers, 0, total_memory()),)

    def workers(self) -> int:
        """Trials that may run at once."""
        return self._n_workers

    def page(self, job_id: str) -> str | None:
        """Nowhere."""
        return None

    def close(self) -> None:
        """Ask every driver to stop, and wait."""
        alive = [p for p in self._running.values() if p.poll() is None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class RayJobs(Launcher):
    """Drivers as Ray jobs: each is on the Ray dashboard with name, metadata and logs.

    Args:
        home: the workspace, a folder that every node of the cluster sees.
        address: gives the cluster's dashboard, `http://head:8265`; may start the cluster first.
        python: command that runs Python where the drivers run.
    """

    def __init__(self, home: Path, address: Callable[[], str], python: str = "python") -> None:
        self._home = home
        self._python = python
        self._address = address
        self._ids: dict[str, str] = {}
        self._nodes: Sequence[Node] = ()
        self._asked_at = -math.inf

    def launch(self, job: Job) -> None:
        """Submit a driver as a Ray job named after the job."""
        command = shlex.join(
            driver_command(self._python, job.job_id, self._home, "ray", "--address", "auto")
        )
        metadata = {"job_name": f"{job.name} ({job.job_id})", NAS_JOB: job.job_id}
        with _translated():
            self._ids[job.job_id] = self._client().submit_job(
                entrypoint=command,
                submission_id=f"nas-{job.job_id}-{job.fence + 1}-{secrets.token_hex(2)}",
                metadata=metadata | ({"owner": job.owner} if job.owner else {}),
            )

    def is_alive(self, job_id: str) -> bool:
        """Whether Ray says that the driver has not ended; False where no Ray answers."""
        submission = self._ids.get(job_id)
        if submission is None:
            return False
        try:
            with _translated():
                return not self._client().get_job_status(submission).is_terminal()
        except NasError:
            return False  # its lease tells whether it still runs

    def nodes(self) -> Sequence[Node]:
        """The cluster's living nodes."""
        return self._nodes

    def workers(self) -> int:
        """CPUs of the cluster's living nodes, as they were at most ten seconds ago."""
        from ray.util.state import list_nodes

        if time.monotonic() - self._asked_at > FRESH_SECONDS:
            with contextlib.suppress(NasError), _translated():
                alive = list_nodes(self._address(), filters=[("state", "=", "ALIVE")])
                self._nodes, self._asked_at = tuple(map(_node, alive)), time.monotonic()
        return max(1, sum(node.n_cpus for node in self._nodes))

    def page(self, job_id: str) -> str | None:
        """On the Ray dashboard, whichever server started the driver."""
        with contextlib.suppress(NasError), _translated():
            found = [j for j in self._client().list_jobs() if _nas_job(j) == job_id]
            if found:
                newest = max(found, key=lambda driver: driver.start_time or 0)
                return f"{self._address().rstrip('/')}/#/jobs/{newest.submission_id}"
        return None

    def close(self) -> None:
        """Leave the drivers alone: they belong to the cluster, and the next server finds them."""

    def _client(self) -> JobSubmissionClient:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self._address())


def driver_command(python: str, job_id: str, home: Path, executor: str, *options: str) -> list[str]:
    """The command that drives a job to its end."""
    where = ("--home", str(home), "--executor", executor)
    return [python, "-m", "nas", "drive", job_id, *where, *options]


def _nas_job(driver: JobDetails) -> str | None:
    """Id of the job that a Ray job drives."""
    return (driver.metadata or {}).get(NAS_JOB)


def _node(found: NodeState) -> Node:
    """A node as Ray's state API tells it."""
    total = found.resources_total
    memory = int(total["memory"]) if "memory" in total else None
    n_cpus, n_gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    return Node(found.node_name, n_cpus, n_gpus, memory)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn whatever Ray's clients raise into our error: theirs have no root of their own.

    Raises:
        LaunchError: the cluster does not answer, refuses the token, or does not take jobs.
    """
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise LaunchError(f"the Ray cluster does not take jobs: {first}") from error
