"""Do scores by shared weights rank candidates as training each by itself does?

    .venv/bin/python tests/benchmarks/supernet.py --seeds 5 --truths 3
    .venv/bin/python tests/benchmarks/supernet.py --seeds 5 --truths 3 --data digits
    .venv/bin/python tests/benchmarks/supernet.py --seeds 5 --truths 2 --data digits --length 3

The space is small networks of 2 to 32 bits. Of MNIST there are 1,500 images, made 8x8 by means
over 4x4, and 4,000 to validate on; scikit-learn's digits have 288, too few to tell good candidates
apart. The truth is the mean validation accuracy of stand-alone trainings with several seeds: 10
epochs, 20 after pruning, 24 with bits in the loop (float ones get these 24, too), or `--length`
times as many. Shorter training after pruning ranks candidates by what pruning broke: with 20, 4 and
24 epochs some stayed 10 points and more below what the same networks reach by shared weights. Small
networks are not done after 54 epochs either.
Every recipe gets the same number of sub-network updates; Kendall's tau is over the same
candidates, once scored by accuracy and once by the mean probability of the true class.

What was trained is kept in the folder `NAS_BENCHMARK_CACHE`, where it is set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

import searchspaces
from nas.core import Candidate, Fidelity
from workers.datasets import NAMED, Dataset, data_folder, load_dataset
from workers.evaluation import CandidateEvaluator, EvaluationSettings
from workers.scoring import scores
from workers.supernet import CHECKPOINT_VERSION, SupernetTrainer, training_digest
from workers.supernet_settings import SupernetSettings
from workers.training import TrainingSettings, logits_of, train

SPACE = {
    "n_stages": 2,
    "depths": [1, 2],
    "widths": [[4, 8, 12], [8, 12, 16]],
    "expansions": [1, 2, 3],
    "keep": [0.25, 0.5, 1.0],
    "weight_bits": [2, 3, 4, 8, 32],
    "activation_bits": [2, 4, 8, 32],
}
CACHE = os.environ.get("NAS_BENCHMARK_CACHE")
ALONE = EvaluationSettings(epochs=10, finetune_epochs=20, qat_epochs=24, n_runs=30)
METRICS = ("accuracy", "true_class_probability")
N_TRAIN, N_VAL, N_TEST = 1500, 4000, 1000
DEFAULT = SupernetSettings()
SANDWICH = replace(DEFAULT, epochs=50, n_random=2, distillation="kl", max_dropout=0.1)
RECIPES = {
    "uniform path": DEFAULT,
    "PA&DA": replace(DEFAULT, paths="importance", images="importance"),
    "sandwich": SANDWICH,
}


def main() -> None:
    """Train the truth and every supernet, two processes at once, and print tau by seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--truths", type=int, default=3)
    parser.add_argument("--length", type=int, default=1)
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist")
    args = parser.parse_args()
    candidates, source = drawn(args.candidates), str(args.data)
    with ProcessPoolExecutor(2) as pool:
        stand_alone = [
            pool.submit(alone, candidate, seed, args.length, source)
            for seed in range(args.truths)
            for candidate in candidates
        ]
        trained = {
            (name, seed): pool.submit(inherited, name, seed, candidates, source)
            for seed in range(args.seeds)
            for name in RECIPES
        }
        largest = pool.submit(largest_alone, source)
        accuracies = np.array([f.result() for f in stand_alone]).reshape(args.truths, -1)
        truth = accuracies.mean(axis=0)
        print(f"stand-alone accuracy {truth.min():.3f} to {truth.max():.3f}, {args.truths} seeds")
        if args.truths > 1:
            print(f"tau between two stand-alone seeds {tau(accuracies[0], accuracies[1]):.3f}")
        found: dict[str, list[list[float]]] = {name: [] for name in RECIPES}
        print(f"{'tau by':<22}{'  '.join(f'{name:>{len(name) + 2}}' for name in METRICS)}")
        for (name, seed), future in trained.items():
            run = future.result()
            found[name].append([tau(run.scores[metric], truth) for metric in METRICS])
            gap = float(np.mean(truth - run.scores["accuracy"]))
            print(
                f"seed {seed} {name:<14} {columns(found[name][-1])}  stand-alone minus inherited "
                f"{gap:+.3f}  {run.seconds:.0f} s, {run.score_seconds:.2f} s a score",
                flush=True,
            )
        cost = median(trained["uniform path", s].result().seconds for s in range(args.seeds))
        print(f"largest network alone for as many epochs: {largest.result():.0f} s; ", end="")
        kept = " (or what was kept of it took to read)" if CACHE else ""
        print(f"the supernet costs {cost / largest.result():.2f} of it{kept}")
    summarise(found)


def summarise(found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Mean tau by recipe, and in how many seeds it is above uniform paths."""
    for name, values in found.items():
        pairs = list(zip(values, found["uniform path"], strict=True))
        wins = [sum(ours[i] > theirs[i] for ours, theirs in pairs) for i in range(len(METRICS))]
        means = columns([mean(column) for column in zip(*values, strict=True)])
        print(
            f"{name:<14} mean  {means}  above uniform by accuracy in {wins[0]}, by probability in "
            f"{wins[1]} of {len(values)}"
        )


@dataclass(frozen=True)
class Run:
    """One supernet: its scores by metric, and what it cost."""

    scores: Mapping[str, Sequence[float]]
    seconds: float
    score_seconds: float


def problem(
    space: Mapping[str, object] = SPACE, source: str = "digits"
) -> tuple[searchspaces.ModelFamily, Dataset]:
    """The space and the data."""
    torch.set_num_threads(1)
    data = load_dataset("digits") if source == "digits" else small_mnist()
    return searchspaces.family("mobilenet", (1, 8, 8), 10, space), data


@cache
def small_mnist() -> Dataset:
    """MNIST with few training images, many to validate on, and the pixels of digits."""
    arrays = np.load(data_folder() / NAMED["mnist"], allow_pickle=False)
    order = np.random.default_rng(0).permutation(len(arrays["x_train"]))[: N_TRAIN + N_VAL]
    x, y = shrunk(arrays["x_train"][order]), arrays["y_train"][order].astype(np.int64)
    mean, std = x[:N_TRAIN].mean(), x[:N_TRAIN].std()
    x = ((x - mean) / std).astype(np.float32)
    x_test = ((shrunk(arrays["x_test"][:N_TEST]) - mean) / std).astype(np.float32)
    y_test = arrays["y_test"][:N_TEST].astype(np.int64)
    train, val = (x[:N_TRAIN], y[:N_TRAIN]), (x[N_TRAIN:], y[N_TRAIN:])
    digest = hashlib.sha256(x.tobytes()).hexdigest()
    return Dataset("mnist, 8x8", *train, *val, x_test, y_test, 10, digest)


def shrunk(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(n, 28, 28)` images with a margin of 2 to `(n, 1, 8, 8)` means over 4x4."""
    padded = np.pad(x.astype(np.float32), ((0, 0), (2, 2), (2, 2)))
    return np.asarray(padded.reshape(len(x), 8, 4, 8, 4).mean((2, 4))[:, None])


def drawn(n: int) -> list[Candidate]:
    """The candidates compared."""
    space = problem()[0].space
    return [space.candidate(row) for row in space.sample(n, np.random.default_rng(123))]


def alone(candidate: Candidate, seed: int, length: int, source: str) -> float:
    """Validation accuracy of a stand-alone training with `length` times the epochs."""
    family, data = problem(source=source)
    settings = replace(
        ALONE,
        seed=seed,
        epochs=length * ALONE.epochs,
        finetune_epochs=length * ALONE.finetune_epochs,
        qat_epochs=length * ALONE.qat_epochs,
    )
    kept = kept_accuracy(candidate, settings, source)
    if kept is not None and kept.is_file():
        return float(kept.read_text())
    with TemporaryDirectory() as folder:
        evaluator = CandidateEvaluator(family, data, Path(folder), settings)
        found = evaluator.evaluate(candidate, Fidelity.TRAINED, lambda _: None)
    if kept is not None:
        kept.write_text(repr(found.metrics["accuracy"]))
    return found.metrics["accuracy"]


def kept_accuracy(candidate: Candidate, settings: EvaluationSettings, source: str) -> Path | None:
    """Where the accuracy of a stand-alone training is kept, if anywhere."""
    if CACHE is None:
        return None
    family, data = problem(source=source)
    about = [CHECKPOINT_VERSION, family.space.digest, data.digest, asdict(settings), candidate.key]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return Path(CACHE) / f"alone-{digest}.txt"


def inherited(name: str, seed: int, candidates: Sequence[Candidate], source: str) -> Run:
    """Scores by the supernet of one recipe and seed."""
    started = time.perf_counter()
    supernet, data = trained_supernet(RECIPES[name], seed, source=source)
    seconds = time.perf_counter() - started
    found, times = [], []
    for candidate in candidates:
        started = time.perf_counter()
        found.append(all_scores(supernet, candidate, data))
        times.append(time.perf_counter() - started)
    by_metric = {metric: [values[metric] for values in found] for metric in METRICS}
    return Run(by_metric, seconds, median(times))


def trained_supernet(
    settings: SupernetSettings,
    seed: int,
    space: Mapping[str, object] = SPACE,
    source: str = "digits",
) -> tuple[searchspaces.Supernet, Dataset]:
    """A supernet of the space, and its data."""
    family, data = problem(space, source)
    trainer = SupernetTrainer(family, data, settings, seed)
    name = training_digest(family, data.digest, settings, seed)
    checkpoint = Path(CACHE) / f"{name}.safetensors" if CACHE else None
    trainer.train(settings.epochs, checkpoint, lambda _: None)
    return trainer.supernet, data


def score(supernet: searchspaces.Supernet, candidate: Candidate, data: Dataset) -> float:
    """Validation accuracy of a candidate with inherited weights."""
    return all_scores(supernet, candidate, data)["accuracy"]


def all_scores(
    supernet: searchspaces.Supernet, candidate: Candidate, data: Dataset
) -> dict[str, float]:
    """Every metric of a candidate with inherited weights on validation images."""
    supernet.activate(candidate)
    supernet.calibrate(torch.from_numpy(data.x_train[:512]))
    return scores(logits_of(supernet, data.x_val).numpy(), data.y_val)


def largest_alone(source: str) -> float:
    """Seconds to train the largest network alone for the supernet's epochs."""
    family, data = problem(source=source)
    network = family.build(family.space.candidate(family.space.n_options - 1))
    settings = TrainingSettings(DEFAULT.epochs, batch_size=DEFAULT.batch_size)
    started = time.perf_counter()
    train(network, data.x_train, data.y_train, settings, seed=0)
    return time.perf_counter() - started


def columns(values: Sequence[float]) -> str:
    """A value a metric, under their names."""
    return "  ".join(f"{v:>{len(name) + 2}.3f}" for v, name in zip(values, METRICS, strict=True))


def tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b."""
    return float(kendalltau(a, b).statistic)


if __name__ == "__main__":
    main()
