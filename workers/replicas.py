"""Several processes that train one network together, each on its part of every batch."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.core import EvaluationError

JOIN_SECONDS = 120.0


@dataclass(frozen=True)
class Replicas:
    """This process's place among those that train together; alone, nothing is exchanged.

    Every process draws the same batches and candidates and makes the same steps, so their weights
    stay equal.

    Attributes:
        rank: 0 for the one that reports and writes.
        count: of processes.
    """

    rank: int = 0
    count: int = 1

    def part(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's images of a batch."""
        return index[self.rank :: self.count]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of equal shapes everywhere by their means, in place."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.flatten() for t in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.reshape(tensor.shape))

    def mean(self, value: float) -> float:
        """The mean of a number over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total) / self.count

    def merged(
        self, values: NDArray[np.float64], known: NDArray[np.bool_], old: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """`(n,)` means over the processes that know a value; `old (n,)` where none does."""
        sums, counts = np.where(known, values, 0.0), known.astype(np.float64)
        if self.count > 1:
            both = torch.from_numpy(np.stack([sums, counts]))
            dist.all_reduce(both)
            sums, counts = both.numpy()
        return np.where(counts > 0, sums / np.maximum(counts, 1.0), old)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Replicas()


def train_together(
    count: int, work: Callable[..., None], *arguments: Any, report: Callable[[str], None]
) -> None:
    """Run `work(replicas, *arguments, report)` here and, for more than one, as Ray tasks.

    Raises:
        EvaluationError: several processes without Ray, or more than the cluster has CPUs.
    """
    if count == 1:
        work(ALONE, *arguments, report)
        return
    import ray

    if not ray.is_initialized():
        raise EvaluationError(f"{count} workers for one supernet need the ray executor")
    n_cpus = int(ray.cluster_resources().get("CPU", 0))
    if n_cpus < count:
        raise EvaluationError(f"{count} workers for one supernet, but only {n_cpus} CPUs")
    host = ray.util.get_node_ip_address()
    with socket.create_server((host, 0)) as probe:
        address = f"tcp://{host}:{probe.getsockname()[1]}"
    helper = ray.remote(_help).options(num_cpus=1, max_retries=0, name="supernet replica")
    shared = [ray.put(argument) for argument in arguments]
    helpers = [helper.remote(address, rank, count, work, *shared) for rank in range(1, count)]
    try:
        with _joined(address, 0, count) as replicas:
            work(replicas, *arguments, report)
        ray.get(helpers)
    finally:
        for task in helpers:
            ray.cancel(task, force=True)


def float_buffers(network: nn.Module) -> list[Tensor]:
    """Running statistics and the like."""
    return [b for b in network.buffers() if b.is_floating_point()]


def _help(
    address: str, rank: int, count: int, work: Callable[..., None], *arguments: object
) -> None:
    torch.set_num_threads(1)
    with _joined(address, rank, count) as replicas:
        work(replicas, *arguments, _silent)


def _silent(line: str) -> None:
    """Only rank 0 reports."""


@contextmanager
def _joined(address: str, rank: int, count: int) -> Iterator[Replicas]:
    limit = timedelta(seconds=JOIN_SECONDS)
    dist.init_process_group("gloo", address, rank=rank, world_size=count, timeout=limit)
    try:
        yield Replicas(rank, count)
    finally:
        dist.destroy_process_group()
