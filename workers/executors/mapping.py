"""One function over many arguments, on Ray or in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from nas.core import InvalidInputError
from workers.executors.ray import cluster
from workers.machine import usable_cpus

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def each_done(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    n_workers: int | None = None,
    address: str | None = None,
) -> Iterator[Result]:
    """`function` of every argument, as results come; Ray is started when the first is asked for.

    Args:
        function: shipped to the workers once; a task whose worker died is run again.
        arguments: one a task; without any, nothing is started.
        n_workers: tasks at once; 1 without an address runs them in this process; None is one a
            CPU.
        address: Ray cluster; None starts a small one here.

    Raises:
        InvalidInputError: fewer than one worker.
        ClusterError: the cluster could not be started or reached.
    """
    if n_workers is not None and n_workers < 1:
        raise InvalidInputError("workers", n_workers, "at least 1")
    if not arguments or (n_workers == 1 and address is None):
        return map(function, arguments)
    return _on_ray(function, arguments, n_workers, address)


def _on_ray(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    n_workers: int | None,
    address: str | None,
) -> Iterator[Result]:
    with cluster(address, n_workers or usable_cpus()):
        shipped = ray.put(function)
        task: Any = ray.remote(num_cpus=1, max_retries=3)(_call)
        left = list(reversed(arguments))
        running: set[ray.ObjectRef[Result]] = set()
        most = n_workers or int(ray.cluster_resources().get("CPU", 1))
        while left or running:
            while left and len(running) < most:
                running.add(task.remote(shipped, left.pop()))
            done, rest = ray.wait(list(running))
            running = set(rest)
            for reference in done:
                yield ray.get(reference)


def _call(function: Callable[[Argument], Result], argument: Argument) -> Result:
    return function(argument)
