"""Differentiable search on the NAS-Bench-201 cell: what each switch derives.

    NAS_DATA=../shared/data .venv/bin/python tests/benchmarks/differentiable.py --seeds 5

A proxy network (three stages of one cell, 8 channels, stride 2) learns MNIST or CIFAR-10 images;
accuracies are the tabulated CIFAR-10 ones (200 epochs): of the derived cell, and, as in a job, of
the best of the distribution's five likeliest cells after a short training of each by itself. Random
search trains random cells in the same way, for as many processor seconds as the search and those
five took.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from statistics import mean, median, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from nas.core import Evaluate, Fidelity, Genotypes
from nas.strategies import RandomSearch, Seeded
from searchspaces.cells.skeleton import Skeleton
from searchspaces.cells.topology import Dense
from searchspaces.relaxed import Mix, RelaxedCells
from searchspaces.tabular import TabularBenchmark, tabular_benchmark
from searchspaces.tabular.nasbench201 import OPERATIONS
from workers.datasets import Dataset, data_folder, load_dataset
from workers.differentiable.examination import accuracy
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.trainer import DifferentiableTrainer

METRIC = "cifar10_test_accuracy"
N_IMAGES = {"mnist": 2500, "cifar10-subset": 4000}
ALONE_SHARE = 0.25
"""Epochs of a random cell's training by itself, as a share of the search's."""

PLAIN = DifferentiableSettings(
    epochs=30,
    architecture_rate=0.01,
    warm_up=0.0,
    levels=2,
    gradient="first",
    sampling="softmax",
    cost_weight=0.0,
)
"""DARTS; the logits' rate makes up for 30 epochs of 16 steps in place of 50 of 390."""

N_TRIED = 5
FALLING = replace(PLAIN, schedule="exponential", temperature=10.0, least_temperature=0.1)
SWITCHES = {
    "plain DARTS": PLAIN,
    "second order": replace(PLAIN, gradient="second"),
    "amended": replace(PLAIN, gradient="amended"),
    "one level": replace(PLAIN, levels=1),
    "Gumbel": replace(FALLING, sampling="gumbel"),
    "the default": DifferentiableSettings(),
    "two levels": DifferentiableSettings(levels=2),
    "GDAS": replace(PLAIN, sampling="straight-through", epochs=60, warm_up=0.5),
    "small temperature": replace(FALLING, temperature=1.0, noise_share=0.2),
    "entropy-adaptive": replace(PLAIN, schedule="entropy", least_temperature=0.01),
    "DropNAS": replace(PLAIN, levels=1, drop=3e-5),
    "SD-DARTS": replace(PLAIN, teachers=3),
    "R-DARTS stop": replace(PLAIN, curvature="stop"),
    "R-DARTS adapt": replace(PLAIN, curvature="adapt"),
    "Max-W, annealing": replace(PLAIN, max_weight=True, annealing_order=10.0),
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One search.

    Attributes:
        derived: tabulated accuracy of the derived cell.
        chosen: of the best of the likeliest cells.
        parameter_free: share of the derived cell's operations without weights.
        gap: what discretisation costs.
        curvature: at the end.
        seconds: of a processor, for the search and for trying the likeliest cells.
    """

    derived: float
    chosen: float
    parameter_free: float
    gap: float
    curvature: float
    seconds: float


def main() -> None:
    """Print a line a switch, each followed by random search of the same cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", choices=list(N_IMAGES), default="mnist")
    parser.add_argument("--switches", nargs="*", choices=list(SWITCHES), default=list(SWITCHES))
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with ProcessPoolExecutor(args.workers) as pool:
        for name in args.switches:
            seeds = range(args.first_seed, args.first_seed + args.seeds)
            jobs = [(args.data, name, seed) for seed in seeds]
            found = []
            for (_, _, seed), (run, other) in zip(jobs, pool.map(compared, jobs), strict=True):
                print(f"seed {seed}: {run}, random search {other}", flush=True)
                found.append((run, other))
            runs, random = [run for run, _ in found], [r for _, r in found]
            wins = sum(run.chosen > other for run, (other, _) in zip(runs, random, strict=True))
            print(
                f"{name:<18} derived {spread([r.derived for r in runs])}  "
                f"best of {N_TRIED} {spread([r.chosen for r in runs])}  "
                f"random search {spread([accuracy for accuracy, _ in random])} "
                f"({mean(n for _, n in random):.1f} cells), beaten in {wins} of {len(runs)}  "
                f"without weights {mean(r.parameter_free for r in runs):4.0%}  "
                f"gap {mean(r.gap for r in runs):+.2f}  "
                f"curvature {median(r.curvature for r in runs):8.3g}  "
                f"{median(r.seconds for r in runs):4.0f} s",
                flush=True,
            )


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and the least."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{mean(values):6.2f} ± {deviation:5.2f} (least {min(values):6.2f})"


def compared(job: tuple[str, str, int]) -> tuple[Run, tuple[float, int]]:
    """One differentiable search, and random search of the same seconds."""
    source, name, seed = job
    run = searched(source, name, seed)
    return run, random_search(source, seed, run.seconds)


def problem(source: str) -> tuple[TabularBenchmark, Dataset, Limits]:
    """The table, the images, and costs without limits."""
    torch.set_num_threads(1)
    table = tabular_benchmark("nasbench201", data_folder())
    data = load_dataset(source, limit=N_IMAGES[source])
    return table, data, Limits(table.space, table.costs, partial(connected, table))


def connected(table: TabularBenchmark, rows: Genotypes) -> NDArray[np.bool_]:
    """`(n,)` which of `(n, d)` cells join their input to their output."""
    columns = np.ascontiguousarray(rows.T)
    return Dense(4, OPERATIONS).connected(table.space, columns, "")


def proxy(table: TabularBenchmark, data: Dataset, seed: int) -> RelaxedCells:
    """The network that learns."""
    torch.manual_seed(seed)
    topology = Dense(4, OPERATIONS)
    skeleton = Skeleton.of(topology, data.input_shape, data.n_classes, width=8)
    return RelaxedCells(table.space, skeleton)


def searched(source: str, name: str, seed: int) -> Run:
    """One differentiable search."""
    table, data, limits = problem(source)
    settings = SWITCHES[name]
    trainer = DifferentiableTrainer(proxy(table, data, seed), data, settings, seed, limits)
    started = time.process_time()
    trainer.train(settings.epochs, report=lambda _: None)
    found = trainer.result()
    likeliest = Seeded(
        RandomSearch(table.space, seed),
        table.space,
        N_TRIED,
        seed,
        Fidelity.TRAINED,
        limits.connected,
    )
    likeliest.follow(dict(zip(table.space.names, found.probabilities, strict=True)))
    rows = [table.space.row(t.candidate) for t in likeliest.ask(N_TRIED) if isinstance(t, Evaluate)]
    rng = np.random.default_rng((seed, 1))
    scores = [score_alone(table, data, row, seed, rng) for row in rows]
    seconds = time.process_time() - started
    curvature = trainer.curvature(found.temperature, np.random.default_rng((seed, 2)))
    return Run(
        looked_up(table, np.array(found.derived, dtype=np.int16)),
        looked_up(table, rows[int(np.argmax(scores))]),
        found.parameter_free_share,
        found.gap,
        curvature,
        seconds,
    )


def random_search(source: str, seed: int, budget: float) -> tuple[float, int]:
    """Tabulated accuracy of the best of the cells that could be trained, and how many they were."""
    table, data, _ = problem(source)
    rng = np.random.default_rng(seed)
    best, n, started = (-1.0, 0.0), 0, time.process_time()
    while n == 0 or time.process_time() - started < budget:
        row = table.space.sample(1, rng)[0]
        score = score_alone(table, data, row, seed, rng)
        best, n = max(best, (score, looked_up(table, row))), n + 1
    return best[1], n


def score_alone(
    table: TabularBenchmark, data: Dataset, row: Genotypes, seed: int, rng: np.random.Generator
) -> float:
    """Validation accuracy of one cell after a short training by itself."""
    network = proxy(table, data, seed)
    options = zip(table.space.n_options, row, strict=True)
    mix = [F.one_hot(torch.tensor(max(int(i), 0)), int(n)).float() for n, i in options]
    train_alone(network, mix, data, rng)
    return accuracy(network, mix, data.x_val, data.y_val)


def train_alone(network: RelaxedCells, mix: Mix, data: Dataset, rng: np.random.Generator) -> None:
    """Train one cell on all training images, for a share of the search's epochs."""
    optimizer = torch.optim.SGD(
        network.parameters(), PLAIN.learning_rate, 0.9, weight_decay=PLAIN.weight_decay
    )
    epochs = max(1, round(PLAIN.epochs * ALONE_SHARE))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(len(y)))
        for index in order.split(PLAIN.batch_size):
            loss = F.cross_entropy(network(x[index], mix), y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        schedule.step()


def looked_up(table: TabularBenchmark, row: Genotypes) -> float:
    """Tabulated accuracy of a cell."""
    return float(table.lookup(row[None])[METRIC][0])


if __name__ == "__main__":
    main()
