"""A process that runs trials, one after the other, for as long as its parent sends them.

    python -m workers.executors.child PARENT SOCKET EVALUATOR

`PARENT` is the process that started this one, `SOCKET` and `EVALUATOR` are numbers of what it left
open: a socket, and a file with its evaluator, pickled by itself. Each message is a trial; each
answer is the same, finished.
"""

from __future__ import annotations

import logging
import mmap
import sys
from multiprocessing.connection import Connection

import cloudpickle

from workers.executors._run import run_trial
from workers.machine import die_with_parent


def serve(connection: Connection, shipped: int) -> None:
    """Run what comes until the parent closes the connection."""
    with mmap.mmap(shipped, 0, access=mmap.ACCESS_READ) as content:  # others read the file, too
        evaluator = cloudpickle.loads(content)
    with connection:
        while True:
            try:
                trial = connection.recv()
            except EOFError:
                return
            connection.send(run_trial(trial, evaluator))


if __name__ == "__main__":
    _, parent, handle, shipped = sys.argv
    die_with_parent(int(parent))
    logging.getLogger("nas").addHandler(logging.NullHandler())
    serve(Connection(int(handle)), int(shipped))
