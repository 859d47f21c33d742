"""Predictor-guided search: learn from what was measured, score thousands, measure one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    CostTable,
    Evaluate,
    Fidelity,
    Genotypes,
    Goals,
    Prediction,
    Predictor,
    SearchSpace,
    SearchStrategy,
    Task,
    Trial,
)
from nas.core.pareto import hypervolume, non_dominated
from nas.strategies._crowding import best_first
from nas.strategies._history import Admissible, History

Columns = dict[str, NDArray[np.float64]]
MAX_SCORED = 128
MIN_TO_FIT = 4


@dataclass(frozen=True)
class _Pool:
    """Scored candidates of one state of knowledge: `(n, d)` rows, mean and hopeful columns."""

    rows: Genotypes
    mean: Columns
    hopeful: Columns


class PredictorGuided(SearchStrategy):
    """Proposes the candidate whose hopeful prediction adds most to the hypervolume.

    After random candidates the predictor is fitted to all completed trials whenever a trial
    finished. A pool of fresh samples, mutants and crossovers of the measured front is scored at
    mean plus or minus `beta` standard deviations; closed-form costs are exact, never predicted.
    Running trials count as measured at their predicted mean, so that parallel asks spread out.
    Candidates predicted to meet the constraints come first.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        predictor: refitted in place.
        featurize: `(n, d)` rows to `(n, f)` features.
        costs: closed-form columns of `(n, d)` rows.
        n_initial: random candidates first.
        pool: candidates scored per state of knowledge.
        beta: standard deviations of optimism.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Luo et al. 2020 (GBDT-NAS), algorithm 1, and Emmerich et al. 2006 for the
    hypervolume improvement; optimism and the mutated pool are additions.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        predictor: Predictor,
        featurize: Callable[[Genotypes], NDArray[np.float32]],
        costs: Callable[[Genotypes], CostTable],
        n_initial: int = 12,
        pool: int = 4000,
        beta: float = 0.5,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        self._space = space
        self._goals = goals
        self._seed = seed
        self._predictor = predictor
        self._featurize = featurize
        self._costs = costs
        self._n_initial = n_initial
        self._pool_size = pool
        self._beta = beta
        self._fidelity = fidelity
        self._admissible = admissible
        self._history = History(space, fidelity)
        self._cached: tuple[int, _Pool] | None = None
        self._fitted_at = -1
        known = set(costs(space.sample(1, np.random.default_rng(0))))
        self._exact = [m for m in goals.metrics if m in known]
        self._learned = [m for m in goals.metrics if m not in known]

    def ask(self, n: int) -> Sequence[Task]:
        """At most `n` tasks; fewer only when the space is exhausted."""
        chosen: list[Genotypes] = []
        while len(chosen) < n:
            number = self._history.n_started + len(chosen)
            row = self._next(np.random.default_rng((self._seed, number)), number, chosen)
            if row is None:
                break
            chosen.append(row)
        return [Evaluate(self._space.candidate(row), self._fidelity) for row in chosen]

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs."""
        self._history.recall(trials)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        self._history.tell(trials)

    def predict(self, rows: Genotypes) -> tuple[Columns, Columns]:
        """Mean and standard deviation columns of every goal's metric for `(n, d)` rows."""
        self._fit()
        costs = self._costs(rows)
        mean = {m: np.asarray(costs[m]) for m in self._exact}
        std = {m: np.zeros(len(rows)) for m in self._exact}
        if self._learned:
            found: Prediction = self._predictor.predict(self._featurize(rows))
            mean |= {m: found.mean[:, j] for j, m in enumerate(self._learned)}
            std |= {m: found.std[:, j] for j, m in enumerate(self._learned)}
        return mean, std

    # ---------------------------------------------------------------- inside

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        history = self._history
        if number + history.n_recalled < self._n_initial or len(history) < MIN_TO_FIT:
            return history.random_row(rng, chosen, self._admissible)
        pool = self._pool()
        unasked = np.flatnonzero(history.unseen(pool.rows, chosen)).astype(np.int64)
        if not len(unasked):
            return history.random_row(rng, chosen, self._admissible)
        return pool.rows[unasked[self._pick(pool, unasked, chosen, rng)]]

    def _pool(self) -> _Pool:
        """The scored pool of the present knowledge: a function of the finished trials alone."""
        n_finished = self._history.n_finished
        if self._cached is not None and self._cached[0] == n_finished:
            return self._cached[1]
        rng = np.random.default_rng((self._seed, n_finished, 1))
        rows = self._candidates(rng)
        mean, std = self.predict(rows)
        hopeful = dict(mean)
        for objective in self._goals.objectives:
            sign = 1.0 if objective.direction == "max" else -1.0
            m = objective.metric
            hopeful[m] = mean[m] + sign * self._beta * std[m]
        pool = _Pool(rows, mean, hopeful)
        self._cached = n_finished, pool
        return pool

    def _candidates(self, rng: np.random.Generator) -> Genotypes:
        """Fresh samples, mutants and crossovers of the measured best, admissible ones only."""
        quarter = self._pool_size // 4
        measured = self._history.rows()
        losses, violations = self._measured()
        best = measured[best_first(losses, violations)[: max(8, len(measured) // 4)]]
        parents = best[rng.integers(len(best), size=(3, quarter))]
        rows = np.concatenate(
            [
                self._space.sample(self._pool_size - 3 * quarter, rng),
                self._space.mutate(parents[0], rng),
                self._space.mutate(parents[1], rng, rate=0.1),
                self._space.crossover(parents[1], parents[2], rng),
            ]
        )
        rows = rows[self._history.unseen(rows)]
        return rows if self._admissible is None else rows[self._admissible(rows)]

    def _fit(self) -> None:
        if self._fitted_at == len(self._history) or not self._learned:
            return
        columns = self._history.columns(self._learned)
        targets = np.stack([columns[m] for m in self._learned], axis=1)
        usable = np.isfinite(targets).all(axis=1)
        self._predictor.fit(self._featurize(self._history.rows())[usable], targets[usable])
        self._fitted_at = len(self._history)

    def _measured(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        columns = self._history.columns(self._goals.metrics)
        return self._goals.losses(columns), self._goals.violations(columns, len(self._history))

    def _pick(
        self,
        pool: _Pool,
        index: NDArray[np.int64],
        chosen: Sequence[Genotypes],
        rng: np.random.Generator,
    ) -> int:
        """Position in `index` of the pool's best candidate."""
        hopeful = self._goals.losses({m: c[index] for m, c in pool.hopeful.items()})
        violations = self._goals.violations({m: c[index] for m, c in pool.mean.items()}, len(index))
        if violations.min() > 0:
            return int(violations.argmin())
        known = self._known(chosen)
        low = np.vstack([known, hopeful[violations == 0]]).min(axis=0)
        high = (known if len(known) else hopeful).max(axis=0)
        scale = np.where(high > low, high - low, 1.0)
        reference = np.full(hopeful.shape[1], 1.1)
        front = (known[non_dominated(known)] - low) / scale
        points = (hopeful - low) / scale
        able = np.flatnonzero(non_dominated(points, violations))
        if len(able) > MAX_SCORED:
            able = rng.choice(able, MAX_SCORED, replace=False)
        base = hypervolume(front, reference)
        gains = [hypervolume(np.vstack([front, points[i]]), reference) - base for i in able]
        return int(able[int(np.argmax(gains))])

    def _known(self, chosen: Sequence[Genotypes]) -> NDArray[np.float64]:
        """`(k, m)` feasible losses: measured, and predicted for running and chosen candidates."""
        losses, violations = self._measured()
        waiting = [*self._history.pending.values(), *chosen]
        if waiting:
            mean, _ = self.predict(np.stack(waiting))
            losses = np.concatenate([losses, self._goals.losses(mean)])
            violations = np.concatenate([violations, self._goals.violations(mean, len(waiting))])
        return losses[(violations == 0.0) & np.isfinite(losses).all(axis=1)]
