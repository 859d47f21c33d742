"""Searching compressed networks against compressing what a search of full networks found.

    .venv/bin/python tests/benchmarks/differentiable_compression.py --seeds 3

DARTS' cells of convolutions, pools and skip connections. Four searches a seed, each with the same
settings but for what its relaxed network computes: full networks; 95 % of every convolution's
weights zero (DASS); weights and activations of 4 bits, the weights' rounding replaced by noise
(QuantNAS) or done. The likeliest cell of each, and a random one, is then built, trained, and
compressed alike: pruned to 95 % and fine-tuned, or quantized to 4 bits and fine-tuned. Accuracy is
that of the compressed network on images no training saw, mean of `--trainings`; cost is the
search's processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

import searchspaces
from nas.core import Goals, Value
from workers.datasets import Dataset, load_dataset
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import new_trainer
from workers.quantizing import prune_and_finetune, quantize_and_finetune
from workers.training import TrainingSettings, logits_of, train

CELL = {"topology": "pairs", "n_nodes": 2}
FREE = ["skip_connect", "avg_pool_3x3", "max_pool_3x3"]
CONVOLUTIONS = ["nor_conv_1x1", "nor_conv_3x3"]
FULL = {**CELL, "operations": [*CONVOLUTIONS, *FREE], "weight_bits": [32]}
SPARSE = {**FULL, "operations": [*(f"{name}/0.95" for name in CONVOLUTIONS), *FREE]}
QUANTIZED = {**FULL, "weight_bits": [4], "activation_bits": [4]}

SEARCHES: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "full": (FULL, False),
    "sparse": (SPARSE, False),
    "noise": (QUANTIZED, True),
    "rounding": (QUANTIZED, False),
}
"""By name, the space that is searched, and whether noise replaces rounding."""

COMPRESSED: Mapping[str, tuple[Mapping[str, Any], Sequence[str]]] = {
    "95 % sparse": (SPARSE, ("sparse", "full", "random")),
    "4 bits": (QUANTIZED, ("noise", "rounding", "full", "random")),
}
"""How networks are compressed, and whose cells are: first the one that knows of it."""


@dataclass(frozen=True)
class Found:
    """A cell, by decision, and the processor seconds it took to find."""

    cell: Mapping[str, Value]
    seconds: float


def main() -> None:
    """Print a line a network, then means, costs, and who beat whom."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=12, help="of a network's training")
    parser.add_argument("--finetuning", type=int, default=6, help="epochs after compressing it")
    parser.add_argument("--trainings", type=int, default=2, help="of every cell")
    parser.add_argument("--settings", type=json.loads, default={}, help="of the searches")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(args.data, limit=args.images)
    accuracies: dict[tuple[str, str], list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        cells = {name: searched(data, name, seed, args.settings) for name in SEARCHES}
        cells["random"] = random_cell(data, seed)
        for name, found in cells.items():
            seconds.setdefault(name, []).append(found.seconds)
            print(f"seed {seed} {name:<9} {found.seconds:4.0f} s  {spelled(found)}", flush=True)
        for kind, (options, names) in COMPRESSED.items():
            for name in names:
                scores = [
                    compressed(data, options, cells[name].cell, (seed, i), args)
                    for i in range(args.trainings)
                ]
                accuracies.setdefault((kind, name), []).append(100 * mean(scores))
                print(f"seed {seed} {kind:<12} {name:<9} {100 * mean(scores):6.2f} %", flush=True)
    print_tables(accuracies, seconds)


def searched(data: Dataset, name: str, seed: int, options: Mapping[str, Any]) -> Found:
    """The likeliest cell that one search finds, by accuracy alone."""
    space, noise = SEARCHES[name]
    family = searchspaces.family("cells", data.input_shape, data.n_classes, space)
    settings = DifferentiableSettings.parse({**options, "quantization_noise": noise})
    trainer = new_trainer(family, data, Goals.parse(["accuracy"]), settings, seed)
    started = time.process_time()
    trainer.train(settings.epochs, report=lambda _: None)
    row = np.array(trainer.result().derived, dtype=np.int16)
    return Found(cell_of(family, row), time.process_time() - started)


def random_cell(data: Dataset, seed: int) -> Found:
    """A cell that nobody searched."""
    family = searchspaces.family("cells", data.input_shape, data.n_classes, FULL)
    row = family.space.sample(1, np.random.default_rng((seed, 5)))[0]
    return Found(cell_of(family, row), 0.0)


def cell_of(family: searchspaces.ModelFamily, row: np.ndarray) -> dict[str, Value]:
    """A row's decisions on cells, its operations without their sparsity."""
    values = family.space.candidate(row).values
    return {
        name: str(value).partition("/")[0]
        for name, value in values.items()
        if not name.startswith("stage")
    }


def compressed(
    data: Dataset,
    options: Mapping[str, Any],
    cell: Mapping[str, Value],
    seeds: tuple[int, int],
    args: argparse.Namespace,
) -> float:
    """Accuracy of the cell's network after training, pruning and quantization as `options` say."""
    family = searchspaces.family("cells", data.input_shape, data.n_classes, options)
    (bits,) = options["weight_bits"]
    values: dict[str, Value] = {f"stage{i}.weight_bits": bits for i in (1, 2, 3)}
    if bits < 32:
        values |= {f"stage{i}.activation_bits": bits for i in (1, 2, 3)}
        values |= {f"stage{i}.granularity": "per_channel" for i in (1, 2, 3)}
    sparse = {name.partition("/")[0]: name for name in options["operations"]}
    values |= {name: sparse.get(str(value), value) for name, value in cell.items()}
    candidate = family.space.candidate(family.space.row(values))
    seed = int(np.random.default_rng(seeds).integers(2**31))
    torch.manual_seed(seed)
    network = family.build(candidate)
    train(network, data.x_train, data.y_train, TrainingSettings(args.epochs), seed)
    finetuning = args.finetuning if bits == 32 else 1
    prune_and_finetune(network, family, candidate, data, finetuning, seed)
    quantize_and_finetune(network, family, candidate, data, args.finetuning, seed)
    x, y = np.concatenate([data.x_val, data.x_test]), np.concatenate([data.y_val, data.y_test])
    return float((logits_of(network, x).numpy().argmax(1) == y).mean())


def spelled(found: Found) -> str:
    """How often each operation stands in a cell."""
    names = [str(v) for k, v in found.cell.items() if not k.endswith(".inputs")]
    return "  ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))


def print_tables(
    accuracies: Mapping[tuple[str, str], Sequence[float]], seconds: Mapping[str, Sequence[float]]
) -> None:
    """Mean, spread, seeds won by the search that knows of the compression, and costs."""
    print(f"\n{'compressed to':<13} {'cells of':<9} {'accuracy, %':>14}  gain of the first, won")
    for (kind, name), values in accuracies.items():
        first = accuracies[kind, COMPRESSED[kind][1][0]]
        gains = [a - b for a, b in zip(first, values, strict=True)]
        won = f"{mean(gains):+6.2f}, {sum(g > 0 for g in gains)} of {len(gains)}"
        print(f"{kind:<13} {name:<9} {spread(values):>14}  {won}", flush=True)
    print(f"\n{'search':<9} {'seconds':>14}")
    for name, values in seconds.items():
        print(f"{name:<9} {spread(values):>14}", flush=True)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    return f"{mean(values):.2f} ± {stdev(values) if len(values) > 1 else 0.0:.2f}"


if __name__ == "__main__":
    main()
