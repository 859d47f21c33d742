"""Accuracy predictors for quantized candidates: transferred from float scores against from scratch.

    .venv/bin/python tests/benchmarks/transfer.py --seeds 5

The space is small networks on digits with 4, 6 or 8 bits everywhere, as in Wang et al. 2020 (APQ),
or without any. Per seed one supernet scores 300 float candidates and 300 quantized ones; 200 of
these are the test, the predictors learn from the first 20, 50 or 100 others. Figures are Kendall's
tau between predicted and inherited accuracy on the test.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Self

import numpy as np
from numpy.typing import NDArray
from supernet import DEFAULT, problem, score, trained_supernet

from nas.core import Genotypes, Predictor, SearchSpace
from predictors.encoders import Features, with_costs
from predictors.gbdt import GradientBoostedTrees
from predictors.neural import NeuralEnsemble
from predictors.transfer import Transferred
from predictors.validation import kendall_tau

N_FLOAT, N_TEST, COUNTS = 300, 200, (20, 50, 100)
STATISTICS = ("macs", "params", "bit_ops")
SPACE = {
    "n_stages": 2,
    "depths": [1, 2],
    "widths": [[4, 8, 12], [8, 12, 16]],
    "expansions": [1, 2, 3],
    "weight_bits": [4, 6, 8, 32],
    "activation_bits": [4, 6, 8],
}
Columns = NDArray[np.float64]


def main() -> None:
    """Print mean tau per predictor and count, and the gain of each transfer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        tables = list(pool.map(measured, range(args.seeds)))
    print(f"{'predictor':<36}" + "".join(f"{n:>16}" for n in COUNTS))
    for name in tables[0]:
        values = np.array([[table[name][n] for n in COUNTS] for table in tables])
        cells = zip(values.mean(0), values.std(0, ddof=min(1, len(values) - 1)), strict=True)
        print(f"{name:<36}" + "".join(f"{m:9.3f} ± {s:.3f}" for m, s in cells), flush=True)
    for kind, scratch in (("trees", "trees from scratch"), ("neural", "neural from scratch")):
        for name in (n for n in tables[0] if n.startswith(kind) and n != scratch):
            gains = [[t[name][n] - t[scratch][n] for n in COUNTS] for t in tables]
            wins = (np.array(gains) > 0).sum(0)
            means = np.mean(gains, axis=0)
            cells = "".join(
                f"{m:+11.3f} {w}/{len(tables)}" for m, w in zip(means, wins, strict=True)
            )
            print(f"gain of {name:<28}{cells}")


def measured(seed: int) -> dict[str, dict[int, float]]:
    """Tau by predictor and number of quantized scores."""
    family = problem(SPACE)[0]
    supernet, data = trained_supernet(DEFAULT, seed, SPACE)
    space, rng = family.space, np.random.default_rng(1000 + seed)
    floats = _drawn(space, [32], N_FLOAT, rng)
    rows = _drawn(space, [4, 6, 8], N_TEST + max(COUNTS), rng)

    def scores(of: Genotypes) -> Columns:
        return np.array([[score(supernet, space.candidate(row), data)] for row in of])

    features = with_costs(space, family.costs)
    many, quantized = scores(floats), scores(rows)
    test, learn = rows[:N_TEST], rows[N_TEST:]
    free = space.sample(2000, rng)
    statistics = np.log(np.stack([family.costs(free)[name] for name in STATISTICS], axis=1))

    def trees() -> Predictor:
        return GradientBoostedTrees(seed=seed)

    makers: dict[str, Callable[[], Predictor]] = {
        "trees from scratch": trees,
        "trees, pooled": lambda: Pooled(features(floats), many, seed),
        "trees, residual": lambda: Transferred(trees).pretrain(features(floats), many),
        "trees, stacked": lambda: Transferred(trees, "stacked").pretrain(features(floats), many),
        "neural from scratch": lambda: NeuralEnsemble(seed=seed),
        "neural, statistics": lambda: NeuralEnsemble(seed=seed).pretrain(
            features(free), statistics
        ),
        "neural, statistics, float scores": lambda: (
            NeuralEnsemble(seed=seed)
            .pretrain(features(free), statistics)
            .pretrain(features(floats), many)
        ),
    }
    found: dict[str, dict[int, float]] = {}
    for name, make in makers.items():
        found[name] = {}
        for n in COUNTS:
            fitted = make().fit(features(learn[:n]), quantized[N_TEST : N_TEST + n])
            predicted = fitted.predict(features(test)).mean[:, 0]
            found[name][n] = kendall_tau(predicted, quantized[:N_TEST, 0])
    return found


class Pooled(GradientBoostedTrees):
    """Trees fitted to float and quantized scores as one table."""

    def __init__(self, x: Features, y: Columns, seed: int) -> None:
        super().__init__(seed=seed)
        self._float = x, y

    def fit(self, x: Features, y: Columns) -> Self:
        """Learn from both."""
        return super().fit(np.concatenate([self._float[0], x]), np.concatenate([self._float[1], y]))


def _drawn(space: SearchSpace, bits: list[int], n: int, rng: np.random.Generator) -> Genotypes:
    """`(n, d)` random rows whose stages all have one of these weight bits."""
    names = [name for name in space.names if name.endswith("weight_bits")]
    narrow = space.narrowed(dict.fromkeys(names, bits))
    return space.widened(narrow.sample(n, rng), narrow)


if __name__ == "__main__":
    main()
