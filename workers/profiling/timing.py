"""Timing in turn with a reference, and what the times tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core.profile import Interval

Run = Callable[[], object]
Clock = Callable[[Run], float]
"""Seconds that one run takes."""

WARMUP_BLOCK = 20
MAX_WARMUP_BLOCKS = 15
STATIONARY = 0.05
ROUND = 50
BLOCK = 10
N_RESAMPLES = 200
CALM = 5.0


@dataclass(frozen=True)
class Summary:
    """Statistics of `(n, 2)` times of a model and of the reference run in turn.

    The ratio is that of the 5 % quantiles: what disturbs a run only ever adds to its time, so that
    quantile repeats within 1.5 % on a busy machine where medians differ by a third, and a few
    runs of luck do not move it as they do the minimum. Intervals are percentiles of a bootstrap of
    blocks of 10 runs, as neighbouring runs are alike.

    Reference: Künsch 1989 (block bootstrap); Chen and Revels 2016 (quantiles against noise).
    """

    ratio: float
    ratio_interval: Interval
    median_interval: Interval

    @classmethod
    def of(cls, times: NDArray[np.float64]) -> Summary:
        """Of `(n, 2)` times in any unit, n at least 10."""
        n_blocks = len(times) // BLOCK
        blocks = times[: n_blocks * BLOCK].reshape(n_blocks, BLOCK, 2)
        drawn = np.random.default_rng(0).integers(0, n_blocks, (N_RESAMPLES, n_blocks))
        resampled = blocks[drawn].reshape(N_RESAMPLES, n_blocks * BLOCK, 2)
        calm = np.percentile(resampled, CALM, axis=1)
        medians = np.median(resampled[:, :, 0], axis=1)
        return cls(calm_ratio(times), _middle(calm[:, 0] / calm[:, 1]), _middle(medians))

    @property
    def tightness(self) -> float:
        """Half the width of the ratio's interval, as a share of the ratio."""
        low, high = self.ratio_interval
        return (high - low) / 2 / self.ratio


def calm_ratio(times: NDArray[np.float64]) -> float:
    """The 5 % quantile of the first of `(n, 2)` columns over that of the second."""
    first, second = np.percentile(times, CALM, axis=0)
    return float(first / second)


def in_turn(
    run: Run,
    reference: Run,
    n_runs: int,
    tightness: float,
    max_seconds: float,
    seconds: Clock | None = None,
) -> tuple[NDArray[np.float64], Summary]:
    """Warm both up, then time them in turn.

    Stops after a round of 50 when the ratio's interval is tight enough or time is up.

    Args:
        run: the model.
        reference: what is run after each of its runs.
        n_runs: at most, at least 30.
        tightness: half width of the ratio's 95 % interval to reach, relative.
        max_seconds: of timed runs; at least 30 are made whatever they take.
        seconds: tells what a run takes; None for the wall clock.

    Returns:
        `(n, 2)` milliseconds, and their statistics.
    """
    clock = timed if seconds is None else seconds
    warm_up(run)
    warm_up(reference)
    times: list[tuple[float, float]] = []
    started = time.perf_counter()
    while True:
        for _ in range(min(ROUND, n_runs - len(times))):
            times.append((clock(run), clock(reference)))
            if len(times) >= 30 and time.perf_counter() - started > max_seconds:
                break
        found = np.array(times) * 1e3
        summary = Summary.of(found)
        over = time.perf_counter() - started > max_seconds
        enough = len(times) >= 2 * ROUND and summary.tightness <= tightness
        if len(times) >= n_runs or over or enough:
            return found, summary


def timed(run: Run) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def warm_up(run: Run) -> None:
    """Run until two blocks in a row have medians within 5 %, or enough blocks are done."""
    before = np.inf
    for _ in range(MAX_WARMUP_BLOCKS):
        now = float(np.median([timed(run) for _ in range(WARMUP_BLOCK)]))
        if abs(now - before) <= STATIONARY * now:
            return
        before = now


@contextmanager
def pinned(n_threads: int) -> Iterator[tuple[int, ...] | None]:
    """Keep this thread on the core it is on and the next ones; gives them, None where it cannot."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    after = sorted(core for core in allowed if core >= _current_core())
    before = sorted(allowed - set(after))
    chosen = tuple([*after, *before][:n_threads])
    os.sched_setaffinity(0, set(chosen))
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def _current_core() -> int:
    """The core this thread last ran on (field 39 of proc(5)'s stat); 0 where it is not told."""
    try:
        fields = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[36])


def _middle(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
