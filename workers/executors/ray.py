"""Trials as tasks of a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import (
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.client import ray as client

from nas.core import (
    ClusterLostError,
    Evaluator,
    Executor,
    Fidelity,
    InvalidInputError,
    Trial,
    WorkerLostError,
)
from workers.executors._facts import (
    MAX_RETRIES,
    OBJECT_STORE_BYTES,
    WORKER_ENVIRONMENT,
    ClusterError,
    lost,
)
from workers.executors._run import describe, run_trial
from workers.machine import usable_cpus

CONNECT_SECONDS = 5.0
PULSE_SECONDS = 2.0
LOST_SECONDS = 15.0
"""Until a cluster that does not answer is given up; shorter cuts go unnoticed."""


@contextmanager
def cluster(address: str | None = None, n_cpus: int | None = None) -> Iterator[None]:
    """Join the cluster at `address`, or start a small one here that ends with the block.

    Raises:
        ClusterError: it could not be started or reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        settings |= {
            "address": "local",  # not one that `ray start` left on this machine
            "num_cpus": n_cpus or usable_cpus(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        _require_listening(address)
        settings["address"] = address
    try:
        ray.init(runtime_env={"env_vars": WORKER_ENVIRONMENT}, **settings)
    except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"reach the Ray cluster at {address}" if address else "start Ray on this machine"
        raise ClusterError(f"could not {where}: {describe(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listening(address: str) -> None:
    """Refuse an address nobody listens at: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # "auto": Ray finds it
    try:
        _connect(host, int(port))
    except OSError as error:
        raise ClusterError(f"could not reach the Ray cluster at {address}: {error}") from None


def _connect(host: str, port: int) -> None:
    """Open a connection and close it.

    Raises:
        OSError: nobody listens there, or nobody answers.
    """
    socket.create_connection((host.strip("[]"), port), timeout=CONNECT_SECONDS).close()


class Pulse:
    """Whether the head and the node that this process joined are still there.

    Ray itself ends such a process after a minute, without a word. A node that is started anew has
    another port, so a cluster put in the place of a dead one does not pass for it.

    Args:
        clock: seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = _joined()
        self._clock = clock
        self._felt = self._asked = clock()

    def check(self) -> None:
        """Return unless they have not answered for too long; asks every few seconds.

        Raises:
            ClusterLostError: they have not.
        """
        if self._clock() - self._asked < PULSE_SECONDS:
            return
        self._asked = self._clock()
        for what, host, port in self._places:
            try:
                _connect(host, port)
            except OSError as error:
                silent = self._clock() - self._felt
                if silent < LOST_SECONDS:
                    return
                where = f"the Ray {what} at {host}:{port}"
                raise ClusterLostError(f"{where} is gone for {silent:.0f} s ({error})") from None
        self._felt = self._clock()


def _joined() -> list[tuple[str, str, int]]:
    """Name, host and port of the head and of this process's node; none through Ray's client."""
    if client.is_connected():
        return []
    context = ray.get_runtime_context()
    here = context.get_node_id()
    (node,) = (n for n in ray.nodes() if n["NodeID"] == here)
    head, _, port = context.gcs_address.rpartition(":")
    return [
        ("head", head, int(port)),
        ("node", node["NodeManagerAddress"], node["NodeManagerPort"]),
    ]


class RayExecutor(Executor):
    """One Ray task per trial, named after job, trial and fidelity.

    Shared training, which uses a GPU where it can, asks for one where the cluster has any.

    A worker that dies is retried by Ray; when the retries are used up the trial fails with that
    reason. An error of the evaluator itself is not retried.

    Args:
        evaluator: shipped to the workers once.
        job_name: first part of every task's name.
        n_workers: trials at once; None for one per CPU of the cluster.
        cpus: CPUs a task takes, by fidelity; the default takes all of one machine for
            `deployed`, so that nothing else disturbs its timing.
        max_retries: how often a trial whose worker died is started again.

    Raises:
        InvalidInputError: the cluster has not that many CPUs on any one machine.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        job_name: str,
        n_workers: int | None = None,
        cpus: Mapping[Fidelity, float] | None = None,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        machines = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        largest = max(machines, default=0.0)
        self._cpus = dict(cpus) if cpus is not None else {Fidelity.DEPLOYED: largest}
        for fidelity, wanted in self._cpus.items():
            if wanted > largest:
                raise InvalidInputError(
                    f"CPUs for {fidelity}", wanted, f"at most {largest:g}, the largest machine has"
                )
        self._n_workers = n_workers or max(1, int(sum(machines)))
        self._most = self._n_workers
        self._gpus = 1 if ray.cluster_resources().get("GPU", 0.0) >= 1 else 0
        self._job_name = job_name
        self._max_retries = max_retries
        self._evaluator = ray.put(evaluator)
        self._task = ray.remote(run_trial)
        self._running: dict[ray.ObjectRef[Trial], Trial] = {}
        self._pulse = Pulse()

    def capacity(self) -> int:
        """Workers without a trial."""
        return max(0, self._most - len(self._running))

    def limit(self, n: int | None) -> None:
        """At most `n` trials at once from now on, and never more than there are workers."""
        self._most = self._n_workers if n is None else min(n, self._n_workers)

    def submit(self, trial: Trial) -> None:
        """Start the trial's task."""
        fidelity = trial.fidelity
        label = fidelity.value if fidelity else "shared training"
        task = self._task.options(
            name=f"{self._job_name} #{trial.number} {label}",
            num_cpus=self._cpus.get(fidelity, 1.0) if fidelity else 1.0,
            num_gpus=self._gpus if fidelity is None else 0,
            max_retries=self._max_retries,
        )
        self._running[task.remote(trial, self._evaluator)] = trial

    def poll(self, timeout: float) -> Sequence[Trial]:
        """Finished trials, waiting at most `timeout` seconds for the first.

        Raises:
            ClusterLostError: the cluster is gone.
        """
        if not self._running:
            return []
        waiting = list(self._running)
        ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout)
        if not ready:
            self._pulse.check()
        else:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [self._result(ref) for ref in ready]

    def cancel(self, number: int) -> None:
        """Stop the trial's task, by force."""
        for ref, trial in list(self._running.items()):
            if trial.number == number:
                del self._running[ref]
                ray.cancel(ref, force=True)

    def close(self) -> None:
        """Stop every task submitted."""
        for trial in list(self._running.values()):
            self.cancel(trial.number)

    def _result(self, ref: ray.ObjectRef[Trial]) -> Trial:
        trial = self._running.pop(ref)
        try:
            done: Trial = ray.get(ref)
        except (WorkerCrashedError, TaskCancelledError) as error:
            return trial.failed(describe(lost(self._max_retries + 1, type(error).__name__)))
        except RayError as error:
            return trial.failed(describe(WorkerLostError(describe(error))))
        return done
