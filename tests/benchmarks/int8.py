"""Accuracy, latency and size of one network in float32, int8 and 4 bits, as exported files.

    .venv/bin/python tests/benchmarks/int8.py --data digits
    NAS_DATA=folder .venv/bin/python tests/benchmarks/int8.py --data mnist --limit 6000 --width 48

Files are timed in turn, run by run on one pinned core, so that ratios hold on a noisy machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from nas.core import Candidate, Fidelity
from nas.problem import Problem
from nas.spec import JobSpec
from workers.profiling.runtime import execution, session

N_STAGES = 3


def main() -> None:
    """Deploy the network in every precision, then time the files against each other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runs", type=int, default=2000)
    args = parser.parse_args()
    problem = Problem.load(
        JobSpec.parse(
            {
                "data": args.data,
                "data_limit": args.limit,
                "space": {"name": "mobilenet", "options": {"widths": [[args.width]] * N_STAGES}},
                "training": {"epochs": args.epochs, "deployed_epochs": 4},
            }
        )
    )
    variants = {
        "float32": {"weight_bits": 32},
        "w8a8 per channel": _quantized(8, 8, "per_channel"),
        "w8a8 per tensor": _quantized(8, 8, "per_tensor"),
        "w4a8 per channel": _quantized(4, 8, "per_channel"),
        "w8a32 per channel": _quantized(8, 32, "per_channel"),
    }
    with tempfile.TemporaryDirectory() as name:
        evaluator, files, lines = problem.evaluator(Path(name), Path(name)), {}, {}
        for variant, bits in variants.items():
            candidate = _candidate(problem, args.width, bits)
            found = evaluator.evaluate(candidate, Fidelity.DEPLOYED, lambda _: None)
            files[variant], lines[variant] = Path(name) / found.artifacts["onnx"], found.metrics
        times = interleaved(files, problem.family.input_shape, args.runs)
        base = times["float32"]
        print(f"{'precision':<20}{'ms':>8}{'ratio':>8}{'val':>8}{'test':>8}{'file':>9}  operators")
        for variant, values in times.items():
            ratio = median(np.array(values) / np.array(base))
            m, kinds = lines[variant], execution(files[variant]).operators
            counts = ", ".join(f"{k} {v}" for k, v in kinds.items() if "Conv" in k)
            print(
                f"{variant:<20}{median(values):8.4f}{ratio:8.2f}{m['accuracy']:8.4f}"
                f"{m['test_accuracy']:8.4f}{m['file_bytes']:9,.0f}  {counts}"
            )


def _quantized(weight: int, activation: int, granularity: str) -> dict[str, int | str]:
    return {"weight_bits": weight, "activation_bits": activation, "granularity": granularity}


def _candidate(problem: Problem, width: int, bits: dict[str, int | str]) -> Candidate:
    stage: dict[str, bool | int | float | str] = {
        "depth": 2, "width": width, "kernel": 3, "expansion": 3, "se": False, "keep": 1.0, **bits,
    }  # fmt: skip
    values = {f"stage{i}.{k}": v for i in range(1, N_STAGES + 1) for k, v in stage.items()}
    space = problem.family.space
    return space.candidate(space.row(values))


def interleaved(
    files: dict[str, Path], shape: tuple[int, int, int], n_runs: int
) -> dict[str, list[float]]:
    """Milliseconds per run of every file, one run of each in turn."""
    feed = {"images": np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)}
    runners = {name: session(path) for name, path in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    for i in range(n_runs + 100):
        for name, runner in runners.items():
            started = time.perf_counter()
            runner.run(None, feed)
            if i >= 100:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


if __name__ == "__main__":
    main()
