"""Differential evolution over vectors whose parts are binned into options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    Fidelity,
    Genotypes,
    Goals,
    SearchSpace,
    Trial,
    TrialState,
)
from nas.core.goals import columns_of
from nas.strategies._crowding import best_first
from nas.strategies._history import TRIES, Admissible
from nas.strategies._stepwise import Stepwise

N_PARENTS = 4
"""A child's own parent and the three others that make its mutant."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class _Member:
    """Who lives in a slot: `(d,)` vector, `(m,)` losses, and how far constraints are missed."""

    vector: Vector
    losses: Vector
    violation: float


class DifferentialEvolution(Stepwise):
    """Adds the difference of two members to a third, and crosses the sum with a fourth.

    Members are vectors in [0, 1]^d; a decision's options are bins of equal width, and a vector is
    rounded to its bins only to be evaluated (rand/1/bin). Trial `number` belongs to slot `number`
    modulo `population`: random while the slot is empty, then a child of the slot's member, whose
    place it takes if it is not worse. Equality counts, which moves the population across plateaus.

    With constraints, less violation is better than any loss. With several objectives a child that
    neither dominates its parent nor is dominated replaces it if it comes before it by rank and
    crowding in the population. Members are replaced as results come; no generation waits.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        population: slots, at least 4.
        scale: of the difference (F).
        crossover: probability that a part comes from the mutant (CR).
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Awad et al. 2020 (DE-NAS) and, for several objectives, Kukkonen and Lampinen 2005
    (GDE3), which keeps both of two incomparable vectors until the generation ends. Parts that
    leave [0, 1] are drawn anew. A child asked before is drawn again, at last mutated.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        population: int = 20,
        scale: float = 0.5,
        crossover: float = 0.5,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._population = population
        self._scale = scale
        self._crossover = crossover
        self._members: dict[int, _Member] = {}
        self._children: dict[int, tuple[int, Vector]] = {}

    def recall(self, trials: Sequence[Trial]) -> None:
        """Take completed trials of earlier jobs; the best of them fill the first slots."""
        self._history.recall(trials)
        losses, violations = self._history.scores(self._goals)
        rows = self._history.rows()
        for slot, i in enumerate(best_first(losses, violations)[: self._population]):
            vector = self._vector(rows[i], np.random.default_rng((self._seed, slot, 1)))
            self._members[slot] = _Member(vector, losses[i], float(violations[i]))

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take trials in event order."""
        for trial in trials:
            if trial.candidate is None or trial.fidelity is not self._fidelity:
                self._history.tell([trial])
                continue
            if trial.state is TrialState.RUNNING:
                number = self._history.n_started
                vector = self._told_vector(self._space.row(trial.candidate), number)
                self._children[trial.number] = number % self._population, vector
            else:
                slot, vector = self._children.pop(trial.number)
                if trial.state is TrialState.COMPLETED:
                    self._compete(slot, vector, trial.metrics)
            self._history.tell([trial])

    # ---------------------------------------------------------------- children

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        found = self._proposal(rng, number, chosen)
        return None if found is None else found[0]

    def _told_vector(self, row: Genotypes, number: int) -> Vector:
        """`(d,)` vector behind the candidate of trial `number`: its proposal, drawn once more."""
        rng = np.random.default_rng((self._seed, number))
        found = self._proposal(rng, number, ())
        if found is not None and np.array_equal(found[0], row):
            return found[1]
        return self._vector(row, rng)

    def _proposal(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> tuple[Genotypes, Vector] | None:
        """Row and vector of trial `number`; None when the space is exhausted."""
        slot = number % self._population
        if slot not in self._members or len(self._members) < N_PARENTS:
            row = self._history.random_row(rng, chosen, self._admissible)
        else:
            children = self._offspring(rng, slot)
            rows = self._rows(children)
            first = self._history.first_new(rows, chosen, self._admissible)
            if first is not None:
                return rows[first], children[first]
            row = self._history.near_row(rows[0], rng, chosen, self._admissible)
        return None if row is None else (row, self._vector(row, rng))

    def _offspring(self, rng: np.random.Generator, slot: int) -> Vector:
        """`(TRIES, d)` independent children of one slot's member."""
        others = np.stack([self._members[s].vector for s in sorted(self._members) if s != slot])
        drawn = rng.random((TRIES, len(others))).argsort(axis=1)[:, :3]
        a, b, c = (others[drawn[:, i]] for i in range(3))
        mutants = a + self._scale * (b - c)
        outside = (mutants < 0.0) | (mutants > 1.0)
        mutants = np.where(outside, rng.random(mutants.shape), mutants)
        crossed = rng.random(mutants.shape) < self._crossover
        crossed[np.arange(TRIES), rng.integers(len(self._space), size=TRIES)] = True
        return np.where(crossed, mutants, self._members[slot].vector)

    def _rows(self, vectors: Vector) -> Genotypes:
        """`(n, d)` candidates of `(n, d)` vectors."""
        n_options = self._space.n_options
        bins = np.minimum((vectors * n_options).astype(np.int16), n_options - 1)
        return self._space.canonical(bins)

    def _vector(self, row: Genotypes, rng: np.random.Generator) -> Vector:
        """`(d,)` random vector whose candidate is `row`."""
        n_options = self._space.n_options
        spread = rng.random(len(row))
        filled = np.where(row < 0, rng.integers(n_options), row)
        return np.asarray((filled + spread) / n_options)

    # ---------------------------------------------------------------- selection

    def _compete(self, slot: int, vector: Vector, metrics: Mapping[str, float]) -> None:
        """Put a finished child into its slot if it is not worse than who lives there."""
        columns = columns_of([metrics], self._goals.metrics)
        losses = self._goals.losses(columns)[0]
        if not np.isfinite(losses).all():
            return
        child = _Member(vector, losses, float(self._goals.violations(columns, 1)[0]))
        if slot not in self._members or self._not_worse(child, slot):
            self._members[slot] = child

    def _not_worse(self, child: _Member, slot: int) -> bool:
        parent = self._members[slot]
        if child.violation or parent.violation:
            return child.violation <= parent.violation
        if (child.losses <= parent.losses).all():
            return True
        if (child.losses >= parent.losses).all():
            return False
        slots = sorted(self._members)
        crowd = [*(self._members[s] for s in slots), child]
        order = best_first(
            np.stack([m.losses for m in crowd]), np.array([m.violation for m in crowd])
        ).tolist()
        return order.index(len(slots)) < order.index(slots.index(slot))
