"""Differentiable search of the joint space against other strategies at equal processor time.

    .venv/bin/python tests/benchmarks/differentiable_joint.py --seeds 3 --seconds 60

Small mobilenet-like networks (architecture, pruning and bits) on digits; objectives are validation
accuracy of the pruned and fake-quantized network, and weight bytes. Every search is a job's
strategy, asked and told in this process until its processor time is spent, its own and that of the
trainings it asks for; a training under way at the end counts. The differentiable one trains its
relaxed network first, then its candidates, then what regularized evolution makes of them, or
(guided) predictor-guided search.
Hypervolume is the share of the box from accuracy 0.8 and 60,000 bytes to the ideal corner.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch

from nas.core import Candidate, Evaluate, Fidelity, TrainShared, Trial, hypervolume, non_dominated
from nas.core.trial import DIFFERENTIABLE
from nas.problem import Problem
from nas.spec import JobSpec
from workers.differentiable.shared import new_trainer
from workers.differentiable.trainer import DifferentiableTrainer
from workers.quantizing import prune_and_finetune, quantize_and_finetune
from workers.scoring import scores
from workers.training import TrainingSettings, logits_of, train

SPACE = {
    "n_stages": 2,
    "widths": [[8, 12, 16], [16, 24, 32]],
    "depths": [1, 2],
    "expansions": [2, 3],
}
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "random": {"strategy": "random"},
    "regularized-evolution": {"strategy": "regularized-evolution"},
    "predictor-guided": {"strategy": "predictor-guided"},
    "differentiable": {"strategy": "regularized-evolution", "differentiable": {}},
    "differentiable-guided": {"strategy": "predictor-guided", "differentiable": {}},
}
BOX = np.array([0.2, 60_000.0])
N_TIMED = 4
SPARE = 1.3
"""Trials of the budget over those that the time allows, so that time ends the search."""


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        losses: `(n, 2)` error and weight bytes of its trained candidates, in order.
        learning: processor seconds before its first candidate.
        spent: processor seconds in all.
    """

    losses: np.ndarray
    learning: float
    spent: float

    @property
    def share(self) -> float:
        """Hypervolume as a share of the box."""
        return hypervolume(self.losses / BOX, np.ones(2))


def main() -> None:
    """Print a line a run, then means and who beat whom."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", nargs="+", choices=list(SEARCHES), default=list(SEARCHES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--settings", type=json.loads, default={}, help="of differentiable search")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[Run]] = {name: [] for name in args.searches}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        n_trials = affordable(specified("random", seed, 1000, args), args.seconds)
        for name in args.searches:
            run = searched(specified(name, seed, n_trials, args), args.seconds)
            found[name].append(run)
            print(
                f"seed {seed} {name:<22} hypervolume {run.share:.4f}  {len(run.losses)} candidates "
                f"of {n_trials}  {run.learning:.0f} of {run.spent:.0f} s before the first  front "
                f"{front(run.losses)}",
                flush=True,
            )
    print_table({name: [run.share for run in runs] for name, runs in found.items()})


def specified(name: str, seed: int, n_trials: int, args: argparse.Namespace) -> Problem:
    """The same job but for its strategy."""
    search = dict(SEARCHES[name])
    if "differentiable" in search:
        search["differentiable"] = args.settings
    training = {"epochs": args.epochs, "finetune_epochs": 1, "qat_epochs": 1}
    body = {
        "data": "digits",
        "data_limit": args.images,
        "space": {"name": "mobilenet", "options": SPACE},
        "objectives": ["accuracy", "weight_bytes"],
        "budget": {"trials": n_trials, "finalists": 1},
        "training": training,
        "seed": seed,
    }
    return Problem.load(JobSpec.parse({**body, **search}))


def affordable(problem: Problem, seconds: float) -> int:
    """Trainings that the time allows, by the median of a few."""
    rows = problem.family.space.sample(N_TIMED, np.random.default_rng(0))
    times = []
    for row in rows:
        started = time.process_time()
        trained(problem, problem.family.space.candidate(row))
        times.append(time.process_time() - started)
    print(f"a training takes {median(times):.1f} s", flush=True)
    return max(4, round(SPARE * seconds / median(times)))


def searched(problem: Problem, seconds: float) -> Run:
    """One search, until its time is spent or nothing is left to try."""
    strategy = problem.strategy()
    trainer = None
    if problem.differentiable_settings is not None:
        settings, goals = problem.differentiable_settings, problem.spec.goals
        trainer = new_trainer(problem.family, problem.dataset, goals, settings, problem.spec.seed)
    losses: list[list[float]] = []
    started, learning, number = time.process_time(), 0.0, 0
    while time.process_time() - started < seconds:
        tasks = strategy.ask(1)
        if not tasks or (isinstance(tasks[0], Evaluate) and tasks[0].fidelity is Fidelity.DEPLOYED):
            break
        trial = Trial(number, tasks[0])
        strategy.tell([trial])
        number += 1
        match trial.task:
            case TrainShared():
                assert trainer is not None
                trainer.train(trial.task.epochs, report=lambda _: None)
                strategy.tell([trial.completed({}, handed_over(problem, trainer))])
                learning = time.process_time() - started
            case Evaluate():
                metrics = trained(problem, trial.task.candidate)
                strategy.tell([trial.completed(metrics)])
                losses.append([1 - metrics["accuracy"], metrics["weight_bytes"]])
    return Run(np.array(losses).reshape(-1, 2), learning, time.process_time() - started)


def handed_over(problem: Problem, trainer: DifferentiableTrainer) -> dict[str, Any]:
    """The provenance by which a job's task hands its distributions over."""
    found, names = trainer.result(), problem.family.space.names
    settings = problem.differentiable_settings
    assert settings is not None
    about: dict[str, Any] = {"probabilities": dict(zip(names, found.probabilities, strict=True))}
    tradeoffs = found.tradeoffs(settings.candidates)
    about["tradeoffs"] = [dict(zip(names, each, strict=True)) for each in tradeoffs]
    return {DIFFERENTIABLE: about}


def trained(problem: Problem, candidate: Candidate) -> dict[str, float]:
    """Validation accuracy after training, pruning and quantization, and costs."""
    family, data, work, seed = (
        problem.family,
        problem.dataset,
        problem.evaluation,
        problem.spec.seed,
    )
    torch.manual_seed(seed)
    network = family.build(candidate)
    train(network, data.x_train, data.y_train, TrainingSettings(work.epochs), seed)
    prune_and_finetune(network, family, candidate, data, work.finetune_epochs, seed)
    quantize_and_finetune(network, family, candidate, data, work.qat_epochs, seed)
    costs = family.costs(family.space.row(candidate)[None])
    found = scores(logits_of(network, data.x_val).numpy(), data.y_val)
    return {**found, **{name: float(column[0]) for name, column in costs.items()}}


def front(losses: np.ndarray) -> str:
    """Accuracy at bytes of the candidates that no other one dominates."""
    if not len(losses):
        return "empty"
    best = losses[non_dominated(losses)]
    return " ".join(f"{1 - e:.3f}@{b:.0f}" for e, b in best[np.argsort(best[:, 1])])


def print_table(found: Mapping[str, Sequence[float]]) -> None:
    """Mean, spread, and by seed how often each search beats the others."""
    print(f"\n{'search':<22} {'mean ± sd':>16}  {'least':>6}  seeds won against")
    for name, values in found.items():
        spread = stdev(values) if len(values) > 1 else 0.0
        wins = "  ".join(
            f"{other} {sum(a > b for a, b in zip(values, found[other], strict=True))}"
            for other in found
            if other != name
        )
        least = min(values)
        print(f"{name:<22} {mean(values):7.4f} ± {spread:.4f}  {least:.4f}  {wins}", flush=True)


if __name__ == "__main__":
    main()
