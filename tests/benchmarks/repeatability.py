"""How well a measured latency repeats: coefficient of variation over repeats, ours and naive loops.

Each repeat opens a new session. `naive` is the median of a plain loop; `ours` are the profiler's
median, its ratio to the reference network, and the milliseconds that are reported: the ratio times
what the reference took once. The last line is that reference, were it measured anew each time.
First on the machine as it is, then beside a process that keeps the other core busy. Whatever else
runs on the machine disturbs both: the load is shown.

    .venv/bin/python tests/benchmarks/repeatability.py [--repeats 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import searchspaces
from workers.comparison import built
from workers.deployment import export_onnx
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.runtime import session, single_run
from workers.profiling.timing import timed

SHAPE = (3, 32, 32)
NAMES = (
    "naive, 30 runs",
    "naive, 300 runs",
    "ours, median ms",
    "ours, ratio",
    "ours, reported ms",
    "reference anew",
)


def model(path: Path) -> None:
    """A quantized, pruned network of the default space, of middling size."""
    family = searchspaces.family("mobilenet", SHAPE, 10, {})
    rows = family.space.sample(40, np.random.default_rng(1))
    row = rows[family.costs(rows)["macs"].argsort()[20]]
    network = built(family, family.space.candidate(row), pruned=True, quantized=True)
    export_onnx(network, SHAPE, path)


def naive(path: Path, n: int) -> float:
    """Median milliseconds of a loop, after one run."""
    run = single_run(session(path))
    run()
    return float(np.median([timed(run) for _ in range(n)])) * 1e3


def repeats(path: Path, n: int) -> NDArray[np.float64]:
    """`(n, 6)` figures, in the order of `NAMES`; the reference's time is kept beside the file."""
    found = []
    for i in range(n):
        profiler = OnnxRuntimeProfiler(n_runs=300, calibrations=str(path.parent))
        profile = profiler.profile(path)
        ours = profile.latency_ms.p50, profile.latency_ratio, profile.calm_ms
        anew = replace(profiler, calibrations=str(path.parent / str(i))).calibration()
        found.append((naive(path, 30), naive(path, 300), *ours, anew.reference_ms))
    return np.array(found)


def burn(cores: set[int]) -> None:
    """Keep the given cores busy for ever."""
    if cores:
        os.sched_setaffinity(0, cores)
    values = np.random.default_rng(0).random((256, 256))
    while True:
        values = np.tanh(values @ values.T / 256)


def show(title: str, figures: NDArray[np.float64]) -> None:
    """Mean and coefficient of variation of every figure."""
    print(f"{title} (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    for name, column in zip(NAMES, figures.T, strict=True):
        print(f"  {name:<18} mean {column.mean():.4f}  CV {column.std(ddof=1) / column.mean():.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        model(file)
        show("as it is", repeats(file, given.repeats))
        other = set(list(os.sched_getaffinity(0))[1:])
        busy = multiprocessing.get_context("spawn").Process(target=burn, args=(other,), daemon=True)
        busy.start()
        try:
            show("other core busy", repeats(file, given.repeats))
        finally:
            busy.kill()
