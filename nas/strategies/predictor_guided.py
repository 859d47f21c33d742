"""Predictor-guided search: learn from what was measured, score thousands, measure one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    CostTable,
    Fidelity,
    Genotypes,
    Goals,
    Prediction,
    Predictor,
    SearchSpace,
    TransferPredictor,
    Trial,
)
from nas.core.goals import columns_of
from nas.strategies._crowding import best_first
from nas.strategies._history import Admissible
from nas.strategies._improvement import most_improving
from nas.strategies._narrowing import Narrowed, Narrowing
from nas.strategies._stepwise import Stepwise
from nas.strategies._tails import without_bad_tail

Columns = dict[str, NDArray[np.float64]]
MIN_TO_FIT = 4
SMALL_SPACE = 20_000
N_PARENTS = 64
LARGE_POOL, N_REFINED = 20_000, 2_000


@dataclass(frozen=True)
class _Pool:
    """Scored candidates of one state of knowledge: `(n, d)` rows, mean and hopeful columns."""

    rows: Genotypes
    mean: Columns
    hopeful: Columns

    def joined(self, other: _Pool) -> _Pool:
        """This pool and another."""
        rows = np.concatenate([self.rows, other.rows])
        mean = {m: np.concatenate([c, other.mean[m]]) for m, c in self.mean.items()}
        hopeful = {m: np.concatenate([c, other.hopeful[m]]) for m, c in self.hopeful.items()}
        return _Pool(rows, mean, hopeful)


class PredictorGuided(Stepwise):
    """Proposes the candidate whose hopeful prediction adds most to the hypervolume.

    After random candidates the predictor is fitted to all completed trials whenever `refit` more of
    them finished. A pool is scored at mean plus or minus `beta` standard deviations; of several
    objectives it is so in the mean only, the number being drawn anew with every finished trial,
    lest a predictor too sure of itself keep a part of the front from ever being tried. Closed-form
    costs are exact, never predicted. The pool is the whole space where that is small; else fresh
    samples, mutants and crossovers of the measured best, and then, generation by generation, of
    those predicted best. Running trials count as measured at their predicted mean, so that
    parallel asks spread out. Candidates predicted to meet the constraints come first.

    With `narrow`, options that only do harm are left out of the pool, but for those that a
    trade-off measured so far has. They are judged anew by the first 24, 36, 54, … trials, so that
    an option may come back.

    An earlier job's trials of other meaning (`learn_from`) teach a `TransferPredictor` beforehand;
    then four random candidates are enough.

    Objective values on the bad side, further from the median than twice the best one is, count as
    that far: what fails should not decide how good ones are told apart.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        predictor: refitted in place.
        featurize: `(n, d)` rows to `(n, f)` features.
        costs: closed-form columns of `(n, d)` rows.
        n_initial: random candidates first.
        pool: candidates scored per state of knowledge, where the space is larger than 20,000.
        beta: standard deviations of optimism; of several objectives the mean of their exponential
            distribution.
        generations: of the search on predictions; 1 is mutants of the measured alone.
        refit: finished trials between two fits; as many as the budget fits once.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.
        narrow: which options only do harm; None leaves the space as it is.

    Reference: Luo et al. 2020 (GBDT-NAS), algorithm 1; Wen et al. 2020 (Neural Predictor) with
    `refit` as large as the budget; Cummings et al. 2022 (LINAS) with several generations; Srinivas
    et al. 2010 for optimism.
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
        generations: int = 3,
        refit: int = 1,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
        narrow: Narrowing | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._predictor = predictor
        self._featurize = featurize
        self._costs = costs
        self._n_initial = n_initial
        self._pool_size = pool
        self._beta = beta
        self._generations = generations
        self._refit = refit
        self._narrowed = None if narrow is None else Narrowed(space, narrow)
        self._cached: tuple[int, _Pool] | None = None
        self._fitted_at = -1
        self._is_small = space.size <= SMALL_SPACE and space.cell is None
        known = set(costs(space.sample(1, np.random.default_rng(0))))
        self._exact = [m for m in goals.metrics if m in known]
        self._learned = [m for m in goals.metrics if m not in known]

    def learn_from(self, trials: Sequence[Trial]) -> None:
        """Teach the predictor an earlier job's trials, where it can be taught so."""
        taught = [t for t in trials if t.candidate is not None]
        if not taught or not self._learned or not isinstance(self._predictor, TransferPredictor):
            return
        rows = np.stack([self._space.row(t.candidate) for t in taught if t.candidate is not None])
        columns = self._clipped(columns_of([t.metrics for t in taught], self._learned))
        targets = np.stack([columns[m] for m in self._learned], axis=1)
        self._predictor.pretrain(self._featurize(rows), targets)
        self._n_initial = min(self._n_initial, MIN_TO_FIT)

    def predict(self, rows: Genotypes) -> tuple[Columns, Columns]:
        """Mean and standard deviation columns of every goal's metric for `(n, d)` rows.

        Those of objectives are of values clipped on the bad side.
        """
        return self._predicted(rows, self._featurize(rows))

    # ---------------------------------------------------------------- inside

    def _predicted(self, rows: Genotypes, features: NDArray[np.float32]) -> tuple[Columns, Columns]:
        self._fit()
        costs = self._costs(rows)
        mean = {m: np.asarray(costs[m]) for m in self._exact}
        std = {m: np.zeros(len(rows)) for m in self._exact}
        if self._learned:
            found: Prediction = self._predictor.predict(features)
            mean |= {m: found.mean[:, j] for j, m in enumerate(self._learned)}
            std |= {m: found.std[:, j] for j, m in enumerate(self._learned)}
        return mean, std

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
        if self._is_small:
            rows, features = self._whole
            wanted = self._unharmed(rows) & self._history.unseen(rows)
            pool = self._scored(rows[wanted], features[wanted])
        else:
            pool = self._bred(rng)
        self._cached = n_finished, pool
        return pool

    @cached_property
    def _whole(self) -> tuple[Genotypes, NDArray[np.float32]]:
        """`(n, d)` every admissible candidate of a small space, and `(n, f)` features."""
        rows = self._space.rows()
        if self._admissible is not None:
            rows = rows[self._admissible(rows)]
        return rows, self._featurize(rows)

    def _bred(self, rng: np.random.Generator) -> _Pool:
        """Fresh samples and children of the measured best, then of those predicted best."""
        pool = self._scored(self._admitted(self._first_rows(rng)))
        share = self._pool_size // (2 * self._generations)
        for _ in range(self._generations - 1):
            if not len(pool.rows):
                break
            order = self._promising(pool)
            children = self._children(pool.rows[order[:N_PARENTS]], share, rng)
            pool = pool.joined(self._scored(self._admitted(children)))
        return pool

    def _scored(self, rows: Genotypes, features: NDArray[np.float32] | None = None) -> _Pool:
        """Predictions for `(n, d)` rows; of more than 20,000 for the 2,000 most promising.

        A predictor may answer many rows more coarsely than few.
        """
        features = self._featurize(rows) if features is None else features
        pool = self._hoped(rows, features)
        if len(rows) <= LARGE_POOL:
            return pool
        best = self._promising(pool)[:N_REFINED]
        return self._hoped(rows[best], features[best])

    def _hoped(self, rows: Genotypes, features: NDArray[np.float32]) -> _Pool:
        mean, std = self._predicted(rows, features)
        optimism = self._optimism()
        hopeful = dict(mean)
        for objective in self._goals.objectives:
            sign = 1.0 if objective.direction == "max" else -1.0
            m = objective.metric
            hopeful[m] = mean[m] + sign * optimism * std[m]
        return _Pool(rows, mean, hopeful)

    def _optimism(self) -> float:
        """Standard deviations, of the present knowledge: a function of the finished trials."""
        if len(self._goals.objectives) == 1:
            return self._beta
        rng = np.random.default_rng((self._seed, self._history.n_finished, 2))
        return float(rng.exponential(self._beta))

    def _promising(self, pool: _Pool) -> NDArray[np.int64]:
        """Numbers of the pool's rows, best first."""
        losses = self._goals.losses(pool.hopeful)
        return best_first(losses, self._goals.violations(pool.mean, len(pool.rows)))

    def _first_rows(self, rng: np.random.Generator) -> Genotypes:
        """Fresh samples and children of the measured best."""
        n_children = (self._pool_size * 3) // (4 * self._generations)
        measured = self._history.rows()
        order = best_first(*self._measured())
        best = measured[order[: max(8, len(measured) // 4)]]
        n_fresh = self._pool_size // 4
        return np.concatenate(
            [self._space.sample(n_fresh, rng), self._children(best, n_children, rng)]
        )

    def _children(self, parents: Genotypes, n: int, rng: np.random.Generator) -> Genotypes:
        """`(n, d)` mutants, small and larger, and crossovers of `(k, d)` parents."""
        third = -(-n // 3)
        a, b, c = parents[rng.integers(len(parents), size=(3, third))]
        mutants = self._space.mutate(a, rng), self._space.mutate(b, rng, rate=0.1)
        return np.concatenate([*mutants, self._space.crossover(b, c, rng)])

    def _admitted(self, rows: Genotypes) -> Genotypes:
        """Those never told, each once, admissible, and without options that only do harm."""
        rows = rows[self._history.unseen(rows)]
        rows = rows[self._unharmed(rows)]
        return rows if self._admissible is None else rows[self._admissible(rows)]

    def _unharmed(self, rows: Genotypes) -> NDArray[np.bool_]:
        """`(n,)` which rows have no option left out."""
        if self._narrowed is None:
            return np.ones(len(rows), dtype=np.bool_)
        return self._narrowed.keeps(rows, self._history.rows(), *self._measured())

    def _fit(self) -> None:
        """Learn from all completed trials, if enough finished since the last time.

        When that was is a function of the number of trials alone, so a replay fits alike.
        """
        n_completed = len(self._history)
        wanted = n_completed
        if n_completed > self._n_initial:
            wanted -= (n_completed - self._n_initial) % self._refit
        if self._fitted_at == wanted or not self._learned:
            return
        told = self._history.columns(self._learned)
        columns = self._clipped({m: column[:wanted] for m, column in told.items()})
        targets = np.stack([columns[m] for m in self._learned], axis=1)
        usable = np.isfinite(targets).all(axis=1)
        rows = self._history.rows()[:wanted]
        self._predictor.fit(self._featurize(rows)[usable], targets[usable])
        self._fitted_at = wanted

    def _measured(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Losses, clipped, and violations of the completed trials."""
        columns = self._history.columns(self._goals.metrics)
        violations = self._goals.violations(columns, len(self._history))
        return self._goals.losses(self._clipped(columns)), violations

    def _clipped(self, columns: Columns) -> Columns:
        """Columns with the bad tail of objectives that are no constraints cut off."""
        clipped = dict(columns)
        bounded = {c.metric for c in self._goals.constraints}
        for objective in self._goals.objectives:
            m = objective.metric
            if m in columns and m not in bounded:
                sign = -1.0 if objective.direction == "max" else 1.0
                clipped[m] = sign * without_bad_tail(sign * columns[m])
        return clipped

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
        able = np.flatnonzero(violations == 0)
        return int(able[most_improving(hopeful[able], self._known(chosen), rng)])

    def _known(self, chosen: Sequence[Genotypes]) -> NDArray[np.float64]:
        """`(k, m)` feasible losses: measured, and predicted for running and chosen candidates."""
        losses, violations = self._measured()
        waiting = [*self._history.pending.values(), *chosen]
        if waiting:
            mean, _ = self.predict(np.stack(waiting))
            losses = np.concatenate([losses, self._goals.losses(mean)])
            violations = np.concatenate([violations, self._goals.violations(mean, len(waiting))])
        return losses[(violations == 0.0) & np.isfinite(losses).all(axis=1)]
