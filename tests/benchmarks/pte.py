"""Whether ExecuTorch computes what ONNX Runtime does, in which precision, and how fast.

    .venv/bin/python tests/benchmarks/pte.py --data digits
    NAS_DATA=folder .venv/bin/python tests/benchmarks/pte.py --data mnist --limit 3000

Networks of the mobilenet-like family (with squeeze-excitation and without) and of cells are
trained, exported and converted; both files see every test image, and are timed in turn with one
thread. The ratio is that of 5 % quantiles, ExecuTorch over ONNX Runtime, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from nas.core import Candidate, Fidelity
from nas.problem import Problem
from nas.spec import JobSpec
from workers.deployment import onnx_logits
from workers.executorch.lowering import convert
from workers.executorch.program import execution, program_logits
from workers.executorch.program import single_run as program_run
from workers.profiling import runtime
from workers.profiling.timing import in_turn, pinned

BITS = {"float32": (32, 32), "w8a8": (8, 8), "w4a8": (4, 8), "w4a4": (4, 4), "w8a32": (8, 32)}
N_CELLS = 2


def main() -> None:
    """Deploy candidates in every precision, then compare both files of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--bits", nargs="+", choices=BITS, default=list(BITS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runs", type=int, default=1000)
    args = parser.parse_args()
    training = {"epochs": args.epochs, "deployed_epochs": 4, "latency_runs": 30}
    print(
        f"{'candidate':<28}{'equal':>8}{'off':>10}{'onnx':>8}{'pte':>8}{'KiB':>7}{'KiB':>7}"
        f"{'ms':>8}{'ms':>8}{'ratio':>7}  interval      weighted in onnx / in pte"
    )
    for space in ("mobilenet", "cells"):
        body = {"data": args.data, "data_limit": args.limit, "space": space, "training": training}
        problem = Problem.load(JobSpec.parse(body))
        for name, candidate in chosen(problem, args.bits):
            print(f"{name:<28}{compared(problem, candidate, args.runs)}", flush=True)


def chosen(problem: Problem, names: Sequence[str]) -> Iterator[tuple[str, Candidate]]:
    """Candidates of one precision throughout, dense, with a name each."""
    space, rng = problem.family.space, np.random.default_rng(0)
    bases = [dict(space.candidate(row).values) for row in space.sample(N_CELLS, rng)]
    if problem.spec.space.name == "mobilenet":
        gates = [d.name for d in space.decisions if d.name.endswith("se")]
        bases = [{**bases[0], **dict.fromkeys(gates, se)} for se in (False, True)]
    for i, base in enumerate(bases):
        for precision in names:
            weight, activation = BITS[precision]
            wanted = {"weight_bits": weight, "activation_bits": activation, "sparsity": "dense"}
            wanted |= {"granularity": "per_channel", "keep": 1.0}
            given = {
                d.name: wanted.get(d.name.rpartition(".")[2], base.get(d.name, d.options[0]))
                for d in space.decisions
            }
            yield f"{problem.spec.space.name} {i} {precision}", space.candidate(space.row(given))


def compared(problem: Problem, candidate: Candidate, n_runs: int) -> str:
    """One line: agreement on the test images, accuracies, sizes, latencies, precisions."""
    data = problem.dataset
    with tempfile.TemporaryDirectory() as name:
        evaluator = problem.evaluator(Path(name), Path(name))
        found = evaluator.evaluate(candidate, Fidelity.DEPLOYED, lambda _: None)
        path = Path(name) / found.artifacts["onnx"]
        made = path.with_suffix(".pte")
        convert(path, made)
        one, other = onnx_logits(path, data.x_test), program_logits(made, data.x_test)
        ours, theirs = program_run(made), runtime.single_run(runtime.session(path))
        with pinned(1):
            times, summary = in_turn(ours, theirs, n_runs, 0.0, 60.0)
        ran, before = execution(made)["weighted"], runtime.execution(path).weighted
        sizes = path.stat().st_size / 1024, made.stat().st_size / 1024
    low, high = summary.ratio_interval
    calm = np.percentile(times, 5, axis=0)
    guesses = one.argmax(1), other.argmax(1)
    accuracy, mobile = ((guess == data.y_test).mean() for guess in guesses)
    return (
        f"{(guesses[0] == guesses[1]).mean():8.2%}{np.abs(one - other).max():10.2g}{accuracy:8.4f}"
        f"{mobile:8.4f}{sizes[0]:7.0f}{sizes[1]:7.0f}{calm[1]:8.3f}{calm[0]:8.3f}"
        f"{summary.ratio:7.2f}  {low:.2f} .. {high:.2f}  {dict(before)} / {dict(ran)}"
    )


if __name__ == "__main__":
    main()
