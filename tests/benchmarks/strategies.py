"""Hypervolume of the strategies at equal numbers of really trained candidates on digits.

    .venv/bin/python tests/benchmarks/strategies.py --seeds 5 --trials 30

Every strategy gets the same space, data, goals and seeds. Objectives are accuracy (validation,
pruned and fake-quantized network) and weight bytes; the hypervolume is the share of the box from
accuracy 0.8 and 60,000 bytes to the ideal corner. A hand-made network of each precision is listed
beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nas.core import Fidelity, TrialState, hypervolume
from nas.jobs import run, submit
from nas.problem import Problem
from nas.spec import JobSpec
from nas.stores import open_store
from nas.workspace import Workspace
from workers.executors.ray import cluster

STRATEGIES = ("random", "regularized-evolution", "predictor-guided")
BOX = np.array([0.2, 60_000.0])
HAND_MADE: dict[str, bool | int | float | str] = {
    "depth": 2,
    "width": 24,
    "kernel": 3,
    "expansion": 3,
    "se": False,
    "keep": 1.0,
}


def main() -> None:
    """Run every strategy with every seed, then print a table and, at the end, JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in args.strategies}
    with tempfile.TemporaryDirectory() as folder, cluster(n_cpus=args.workers):
        workspace = Workspace(Path(folder), open_store("memory"))
        found["hand-made"] = [hand_made(Path(folder), args)] * args.seeds
        print(f"hand-made network, 3 precisions    hypervolume {found['hand-made'][0]:.4f}")
        for seed in range(args.seeds):
            for name in args.strategies:
                trials = searched(workspace, name, seed, args)
                found[name].append(share(trials))
                print(f"seed {seed} {name:<22} hypervolume {found[name][-1]:.4f}", flush=True)
    print_table(found)
    print(json.dumps(found))


def hand_made(folder: Path, args: argparse.Namespace) -> float:
    """Hypervolume of one sensible network in float, 8 and 4 bits."""
    problem = Problem.load(specification("random", 0, args))
    evaluator = problem.evaluator(folder, folder)
    space, scores = problem.family.space, []
    for bits in (32, 8, 4):
        stage = {**HAND_MADE, "weight_bits": bits}
        if bits < 32:
            stage |= {"activation_bits": bits, "granularity": "per_channel"}
        values = {f"stage{i}.{name}": value for i in (1, 2, 3) for name, value in stage.items()}
        candidate = space.candidate(space.row(values))
        scores.append(evaluator.evaluate(candidate, Fidelity.TRAINED, lambda _: None).metrics)
    return share(scores)


def specification(strategy: str, seed: int, args: argparse.Namespace) -> JobSpec:
    """The same job but for strategy and seed."""
    return JobSpec.parse(
        {
            "name": f"{strategy} {seed}",
            "strategy": strategy,
            "objectives": ["accuracy:max", "weight_bytes:min"],
            "budget": {"trials": args.trials, "finalists": 1},
            "training": {
                "epochs": args.epochs,
                "finetune_epochs": 1,
                "qat_epochs": 1,
                "deployed_epochs": 0,
                "latency_runs": 30,
            },
            "seed": seed,
        }
    )


def searched(
    workspace: Workspace, strategy: str, seed: int, args: argparse.Namespace
) -> list[Mapping[str, float]]:
    """Metrics of the completed search trials of one job."""
    spec = specification(strategy, seed, args)
    problem = Problem.load(spec)
    job = submit(workspace, problem)
    run(workspace, job, problem, n_workers=args.workers)
    return [
        t.metrics
        for t in workspace.store.trial_store(job.job_id).trials()
        if t.fidelity is Fidelity.TRAINED and t.state is TrialState.COMPLETED
    ]


def share(scores: list[Mapping[str, float]]) -> float:
    """Hypervolume as a share of the box."""
    losses = np.array([[1 - s["accuracy"], s["weight_bytes"]] for s in scores])
    return hypervolume(losses / BOX, np.ones(2))


def print_table(found: dict[str, list[float]]) -> None:
    """Mean, spread, and the paired comparison with random search."""
    first = next(iter(found))
    base = np.array(found[first])
    print(f"\n{'strategy':<22} {'mean':>7} {'sd':>7} {'min':>7} {'max':>7}  over {first}, by seed")
    for name, values in found.items():
        v = np.array(values)
        pairs = " ".join(f"{r:.3f}" for r in v / base)
        spread = v.std(ddof=1) if len(v) > 1 else 0.0
        print(f"{name:<22} {v.mean():7.4f} {spread:7.4f} {v.min():7.4f} {v.max():7.4f}  {pairs}")


if __name__ == "__main__":
    main()
