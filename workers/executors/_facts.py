"""What executors share, known before Ray is imported: it reads its environment only once."""

from __future__ import annotations

from nas.core import NasError, WorkerLostError

OBJECT_STORE_BYTES = 200 * 2**20
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Of processes that run trials: one thread each, so that a trial is the same beside others."""
MAX_RETRIES = 2
"""How often a trial whose worker died is started again."""


class ClusterError(NasError, RuntimeError):
    """A Ray cluster could not be started or reached."""


def lost(times: int, how: str) -> WorkerLostError:
    """The error of a trial whose worker died whenever it was started."""
    return WorkerLostError(f"the worker died {times} times ({how})")
