"""NSGA-II and NSGA-III in steady state, with pymoo's survival."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import Fidelity, Genotypes, Goals, SearchSpace
from nas.strategies._crowding import best_first
from nas.strategies._history import TRIES, Admissible
from nas.strategies._stepwise import Stepwise


class SteadyStateGenetic(Stepwise):
    """Children of tournament winners; every completed trial fights for a place at once. Abstract.

    After `population` random candidates, each child is crossed from two winners of binary
    tournaments with probability `crossover`, else copied from one, and then mutated; at least one
    decision changes. A completed trial joins the population and the worst leaves it (mu + 1), so
    no generation waits. Less violation of constraints is better than any loss.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        population: candidates alive.
        crossover: probability that a child has two parents.
        mutation: probability that a decision changes; None for one over their number.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        population: int = 50,
        crossover: float = 0.9,
        mutation: float | None = None,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._population = population
        self._crossover = crossover
        self._mutation = 1.0 / len(space) if mutation is None else mutation
        self._survival: Any = None
        self._alive: Any = None
        self._n_considered = 0

    @abstractmethod
    def _new_survival(self) -> Any:
        """The pymoo operator that says who stays alive."""

    @abstractmethod
    def _winners(self, pairs: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """`(n,)` the better of each of `(n, 2)` places in the population."""

    @property
    def alive(self) -> Genotypes:
        """`(k, d)` candidates in the population."""
        return self._history.rows()[self._places()]

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        history = self._history
        if number + history.n_recalled >= self._population and self._alive is not None:
            children = self._children(rng)
            first = history.first_new(children, chosen, self._admissible)
            if first is not None:
                return children[first]
        return history.random_row(rng, chosen, self._admissible)

    def _children(self, rng: np.random.Generator) -> Genotypes:
        """`(TRIES, d)` independent children of the population."""
        alive = self.alive
        pairs = rng.integers(len(alive), size=(2 * TRIES, 2))
        winners = alive[self._winners(pairs, rng)]
        mothers, fathers = winners[:TRIES], winners[TRIES:]
        both = rng.random(TRIES) < self._crossover
        crossed = self._space.crossover(mothers, fathers, rng)
        return self._space.mutate(np.where(both[:, None], crossed, mothers), rng, self._mutation)

    def _places(self) -> NDArray[np.int64]:
        """`(k,)` numbers of the living among the completed candidates."""
        if self._alive is None:
            return np.empty(0, dtype=np.int64)
        return np.asarray(self._alive.get("X")[:, 0], dtype=np.int64)

    def _follow(self) -> None:
        """Let the candidate that was completed last, if one was, fight for a place."""
        if len(self._history) == self._n_considered:
            return
        self._n_considered = len(self._history)
        losses, violations = self._history.scores(self._goals, last=1)
        if not np.isfinite(losses).all():
            return
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem

        if self._survival is None:
            self._survival = self._new_survival()
        problem = Problem(n_var=1, n_obj=losses.shape[1], n_ieq_constr=1)
        newest = np.array([[self._n_considered - 1]])
        newcomer = Population.new("X", newest, "F", losses, "G", violations[:, None])
        rng = np.random.default_rng((self._seed, self._n_considered, 1))
        with warnings.catch_warnings():  # its normalization silences warnings for good
            self._alive = self._survival.do(
                problem,
                Population.merge(self._alive, newcomer),
                n_survive=self._population,
                random_state=rng,
            )


class NSGA2(SteadyStateGenetic):
    """Lower rank wins, then the greater crowding distance, in tournaments and for survival.

    Reference: Deb et al. 2002 (population 100, crossover 0.9, mutation one over the number of
    decisions) and Durillo et al. 2009 for the steady state; uniform crossover and mutation of
    options stand for SBX and polynomial mutation. Survival is pymoo's.
    """

    def _new_survival(self) -> Any:
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        return RankAndCrowding()

    def _winners(self, pairs: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        losses, violations = self._history.scores(self._goals)
        places = self._places()
        position = best_first(losses[places], violations[places]).argsort()
        return pairs[np.arange(len(pairs)), position[pairs].argmin(axis=1)]


class NSGA3(SteadyStateGenetic):
    """Lower rank wins, then who is nearest to a direction that has few; for many objectives.

    The directions are Das and Dennis's, as many as fit the population. Of two parents with the
    same nearest direction the tournament takes the lower rank, then the nearer one; else either.

    Reference: Deb and Jain 2014, and Seada and Deb 2016 (U-NSGA-III) for the tournament; the
    first paper draws parents at random. Survival is pymoo's, one newcomer at a time.
    """

    def _new_survival(self) -> Any:
        from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
        from pymoo.util.ref_dirs import get_reference_directions

        m = len(self._goals.objectives)
        n_partitions = 1
        while m > 1 and comb(m + n_partitions, m - 1) <= self._population:
            n_partitions += 1
        directions = get_reference_directions("das-dennis", m, n_partitions=n_partitions)
        return ReferenceDirectionSurvival(directions)

    def _winners(self, pairs: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        violation = self._alive.get("CV")[:, 0]
        feasible = violation == 0.0
        niche, rank, distance = (
            np.where(feasible, self._alive.get(name), np.nan).astype(np.float64)
            for name in ("niche", "rank", "dist_to_niche")
        )
        order = np.lexsort((distance, rank, violation)).argsort()
        a, b = pairs.T
        comparable = ~(feasible[a] & feasible[b]) | (niche[a] == niche[b])
        first = np.where(comparable, order[a] <= order[b], rng.random(len(pairs)) < 0.5)
        return np.where(first, a, b)
