"""One network with elastic bits against networks trained for their bits alone.

    .venv/bin/python tests/benchmarks/elastic_bits.py --seeds 5

One small architecture on digits; weights and activations of 2 to 8 bits, per channel. A supernet
of the bits alone is trained with one uniform path a step, or with progressive guidance (four paths
a step, a quarter of the epochs), with and without the moment losses; every stand-alone network gets
30 float epochs and 30 with its bits in the loop. Figures are validation accuracies.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from supernet import DEFAULT, score

import searchspaces
from nas.core import Candidate, Fidelity
from workers.datasets import load_dataset
from workers.evaluation import CandidateEvaluator, EvaluationSettings
from workers.supernet import SupernetTrainer

BITS = (2, 3, 4, 6, 8)
SPACE = {
    "n_stages": 2, "depths": [2], "widths": [[12], [16]], "kernels": [3], "expansions": [3],
    "squeeze_excitation": [False], "keep": [1.0], "weight_bits": [2, 3, 4, 5, 6, 7, 8],
    "activation_bits": [2, 3, 4, 5, 6, 7, 8],
}  # fmt: skip
GUIDED = replace(DEFAULT, epochs=60, n_random=2, teacher="previous", float_share=0.5)
SETTINGS = {
    "uniform path": replace(DEFAULT, epochs=240),
    "elastic": GUIDED,
    "elastic, moments": replace(GUIDED, kurtosis_weight=0.015, skewness_weight=1.0),
}


def main() -> None:
    """Print mean accuracies by bits, and the gap to stand-alone training."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    seeds = range(parser.parse_args().seeds)
    with ProcessPoolExecutor(2) as pool:
        runs = {name: [pool.submit(elastic, name, seed) for seed in seeds] for name in SETTINGS}
        alone = [[pool.submit(stand_alone, bits, seed) for bits in BITS] for seed in seeds]
        table = {"stand-alone": np.array([[f.result() for f in row] for row in alone])}
        table |= {name: np.array([f.result() for f in found]) for name, found in runs.items()}
    print(f"{'bits':<18}" + "".join(f"{bits:>16}" for bits in BITS))
    for name, values in table.items():
        cells = zip(values.mean(0), values.std(0, ddof=min(1, len(values) - 1)), strict=True)
        print(f"{name:<18}" + "".join(f"{m:9.4f} ± {s:.3f}" for m, s in cells))
        if name != "stand-alone":
            gaps = 100 * (table["stand-alone"] - values).mean(0)
            print(f"{'  gap in points':<18}" + "".join(f"{gap:+16.2f}" for gap in gaps))


def problem() -> searchspaces.ModelFamily:
    """The space of bits."""
    torch.set_num_threads(1)
    return searchspaces.family("mobilenet", (1, 8, 8), 10, SPACE)


def candidate(family: searchspaces.ModelFamily, bits: int) -> Candidate:
    """The architecture with the same bits everywhere."""
    values = dict(family.space.candidate(family.space.n_options - 1).values)
    for stage in ("stage1", "stage2"):
        values |= {f"{stage}.weight_bits": bits, f"{stage}.activation_bits": bits}
        values[f"{stage}.granularity"] = "per_channel"
    return family.space.candidate(family.space.row(values))


def elastic(name: str, seed: int) -> list[float]:
    """Inherited accuracies by bits of one supernet."""
    family, data = problem(), load_dataset("digits")
    trainer = SupernetTrainer(family, data, SETTINGS[name], seed)
    trainer.train(SETTINGS[name].epochs, report=lambda _: None)
    return [score(trainer.supernet, candidate(family, bits), data) for bits in BITS]


def stand_alone(bits: int, seed: int) -> float:
    """Accuracy of the architecture trained for these bits."""
    family, data = problem(), load_dataset("digits")
    settings = EvaluationSettings(30, finetune_epochs=0, qat_epochs=30, n_runs=30, seed=seed)
    with TemporaryDirectory() as folder:
        evaluator = CandidateEvaluator(family, data, Path(folder), settings)
        found = evaluator.evaluate(candidate(family, bits), Fidelity.TRAINED, lambda _: None)
    return found.metrics["accuracy"]


if __name__ == "__main__":
    main()
