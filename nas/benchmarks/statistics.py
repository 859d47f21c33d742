"""What the runs of a benchmark say: medians, intervals, ranks, paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.benchmarks.runs import Run

N_RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """One strategy over its seeds.

    Attributes:
        queries: 25, 50 and 75 % quantiles of queries to the target; infinite where not reached.
        reached: share of the runs that reached it.
        final: 25, 50 and 75 % quantiles of the last value.
        regret: median distance of the last value from the optimum; infinite where most found
            nothing feasible.
        rank: mean over seeds of its rank by the last value, 1 the best, ties shared.
        p_value: of the paired test against the first strategy; None for the first itself.
        ask_seconds: median per query.
    """

    strategy: str
    queries: tuple[float, float, float]
    reached: float
    final: tuple[float, float, float]
    regret: float
    rank: float
    p_value: float | None
    ask_seconds: float


def summaries(runs: Sequence[Run], larger_is_better: bool) -> list[Summary]:
    """One summary a strategy, in the order of their first runs.

    The paired test is Wilcoxon's signed ranks over seeds, two-sided: on queries to the target where
    any run reached it (a run that never did counts as the budget plus one), else on final values.
    """
    names = list(dict.fromkeys(run.strategy for run in runs))
    final = {name: curves(runs, name)[:, -1] for name in names}
    queries = {name: _queries(runs, name) for name in names}
    ranks = _ranks(np.stack([final[name] for name in names]), larger_is_better)
    by_queries = any(np.isfinite(values).any() for values in queries.values())
    out = []
    for name, rank in zip(names, ranks, strict=True):
        asked = [r.ask_seconds / max(1, len(r.trace)) for r in runs if r.strategy == name]
        measure = queries if by_queries else final
        p_value = None if name == names[0] else _paired(measure[name], measure[names[0]])
        out.append(
            Summary(
                name,
                _quartiles(queries[name]),
                float(np.isfinite(queries[name]).mean()),
                _quartiles(final[name]),
                _median_regret(runs, name),
                float(rank),
                p_value,
                float(np.median(asked)),
            )
        )
    return out


def curves(runs: Sequence[Run], strategy: str) -> NDArray[np.float64]:
    """`(seeds, budget)` values after each query; nan before the first feasible one.

    A run that ended early (the space was exhausted) keeps its last value.
    """
    mine = [r.trace for r in runs if r.strategy == strategy]
    length = max(len(trace) for r in runs for trace in [r.trace])
    rows = np.full((len(mine), max(length, 1)), np.nan)
    for row, trace in zip(rows, mine, strict=True):
        values = [np.nan if v is None else v for v in trace]
        row[: len(values)] = values
        if values:
            row[len(values) :] = values[-1]
    return rows


def interval(values: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean of `(n,)` values and the ends of its 95 % bootstrap interval (percentiles)."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(N_RESAMPLES, len(values)))
    means = values[drawn].mean(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(values.mean()), float(low), float(high)


def to_json(
    runs: Sequence[Run], found: Sequence[Summary], about: Mapping[str, object]
) -> dict[str, object]:
    """Runs and summaries; what never happened is null."""
    return {
        "about": dict(about),
        "runs": [run.to_json() for run in runs],
        "summaries": [
            {
                "strategy": s.strategy,
                "queries_to_target": [None if np.isinf(q) else q for q in s.queries],
                "reached": s.reached,
                "final": [None if np.isnan(v) else v for v in s.final],
                "regret": None if np.isinf(s.regret) else s.regret,
                "rank": s.rank,
                "p_value": s.p_value,
                "ask_seconds_per_query": s.ask_seconds,
            }
            for s in found
        ],
    }


def _queries(runs: Sequence[Run], strategy: str) -> NDArray[np.float64]:
    mine = [r.queries_to_target for r in runs if r.strategy == strategy]
    return np.array([np.inf if q is None else q for q in mine], dtype=np.float64)


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, [25, 50, 75], method="closest_observation")
    return float(low), float(middle), float(high)


def _median_regret(runs: Sequence[Run], strategy: str) -> float:
    found = [r.regret for r in runs if r.strategy == strategy]
    return float(np.median([np.inf if regret is None else regret for regret in found]))


def _ranks(final: NDArray[np.float64], larger_is_better: bool) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    losses = np.where(np.isnan(final), np.inf, -final if larger_is_better else final)
    return np.asarray(rankdata(losses, axis=0).mean(axis=1))


def _paired(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    from scipy.stats import wilcoxon

    finite = np.concatenate([a, b])[np.isfinite(np.concatenate([a, b]))]
    worst = (finite.max() if len(finite) else 0.0) + 1.0
    gaps = np.where(np.isfinite(a), a, worst) - np.where(np.isfinite(b), b, worst)
    return 1.0 if not gaps.any() else float(wilcoxon(gaps).pvalue)
