"""Trials in processes of this machine, several at once, without Ray."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

import cloudpickle

from nas.core import Evaluator, Executor, Fidelity, Trial
from workers.executors._facts import MAX_RETRIES, WORKER_ENVIRONMENT, lost
from workers.executors._run import describe
from workers.machine import environment, usable_cpus


@dataclass
class _Worker:
    """A process and the trial it runs; None while it waits."""

    process: subprocess.Popen[bytes]
    connection: Connection
    trial: Trial | None = None

    def end(self) -> int:
        """Kill it where it lives; gives its exit status."""
        self.connection.close()
        self.process.kill()
        return self.process.wait()


class ProcessExecutor(Executor):
    """Processes that are started when first needed and run one trial at a time, one thread each.

    Trials start in the order they were submitted. Those at fidelity `deployed`, which are timed,
    run alone.

    A trial whose process dies is started again; when the retries are used up it fails with that
    reason. An error of the evaluator itself is not retried. Processes die with their parent.

    Args:
        evaluator: shipped to the processes by value.
        n_workers: trials at once; None for one per CPU.
        max_retries: how often a trial whose process died is started again.
    """

    def __init__(
        self, evaluator: Evaluator, n_workers: int | None = None, max_retries: int = MAX_RETRIES
    ) -> None:
        self._n_workers = n_workers or usable_cpus()
        self._most = self._n_workers
        self._max_retries = max_retries
        self._shipped = tempfile.TemporaryFile()  # noqa: SIM115  # nameless: nobody has to delete it
        self._shipped.write(cloudpickle.dumps(evaluator))
        self._shipped.flush()
        self._workers: list[_Worker] = []
        self._waiting: deque[Trial] = deque()
        self._deaths: Counter[int] = Counter()

    def capacity(self) -> int:
        """Workers without a trial."""
        return max(0, self._most - len(self._busy()) - len(self._waiting))

    def limit(self, n: int | None) -> None:
        """At most `n` trials at once from now on; processes that are too many end."""
        self._most = self._n_workers if n is None else min(n, self._n_workers)
        for worker in self._idle()[: max(0, len(self._workers) - self._most)]:
            self._end(worker)

    def submit(self, trial: Trial) -> None:
        """Start the trial, or let it wait for its turn."""
        self._waiting.append(trial)
        self._start()

    def poll(self, timeout: float) -> Sequence[Trial]:
        """Finished trials, waiting at most `timeout` seconds for the first."""
        self._start()
        busy = {worker.connection: worker for worker in self._busy()}
        if not busy:
            return []
        ready = [busy[c] for c in wait(list(busy), timeout) if isinstance(c, Connection)]
        found = [self._settled(worker) for worker in ready]
        self._start()
        return [trial for trial in found if trial is not None]

    def cancel(self, number: int) -> None:
        """Forget the trial, or kill the process that runs it."""
        self._waiting = deque(t for t in self._waiting if t.number != number)
        for worker in self._busy():
            if worker.trial is not None and worker.trial.number == number:
                self._end(worker)

    def close(self) -> None:
        """Kill every process."""
        self._waiting.clear()
        for worker in list(self._workers):
            self._end(worker)
        self._shipped.close()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.trial is not None]

    def _idle(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.trial is None]

    def _start(self) -> None:
        """Start what waits, for as long as the next in turn may start."""
        while self._waiting and self._may_start(self._waiting[0]):
            trial = self._waiting.popleft()
            idle = self._idle()
            worker = idle[0] if idle else self._new_worker()
            worker.trial = trial
            with contextlib.suppress(OSError):  # it died while it waited: the next poll sees that
                worker.connection.send(trial)

    def _may_start(self, trial: Trial) -> bool:
        running = [worker.trial for worker in self._busy() if worker.trial is not None]
        if _is_alone(trial):
            return not running
        return len(running) < self._most and not any(map(_is_alone, running))

    def _settled(self, worker: _Worker) -> Trial | None:
        """The trial a worker finished; None where it died and the trial is started again."""
        trial = worker.trial
        assert trial is not None
        try:
            done: Trial = worker.connection.recv()
        except (EOFError, OSError):
            status = self._end(worker)
        else:
            worker.trial = None
            return done
        self._deaths[trial.number] += 1
        if self._deaths[trial.number] <= self._max_retries:
            self._waiting.appendleft(trial)
            return None
        return trial.failed(describe(lost(self._max_retries + 1, f"exit status {status}")))

    def _end(self, worker: _Worker) -> int:
        self._workers.remove(worker)
        return worker.end()

    def _new_worker(self) -> _Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            handles = (theirs.fileno(), self._shipped.fileno())
            about = (str(os.getpid()), *map(str, handles))
            process = subprocess.Popen(
                [sys.executable, "-m", "workers.executors.child", *about],
                env=environment(**WORKER_ENVIRONMENT),
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        worker = _Worker(process, Connection(ours.detach()))
        self._workers.append(worker)
        return worker


def _is_alone(trial: Trial) -> bool:
    """Whether nothing else may run beside it."""
    return trial.fidelity is Fidelity.DEPLOYED
