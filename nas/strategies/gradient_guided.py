"""Gradient-guided search: descend a neural surrogate to its inputs, then round to candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.core import DifferentiablePredictor, Fidelity, Genotypes, Goals, SearchSpace
from nas.strategies._crowding import best_first
from nas.strategies._history import Admissible
from nas.strategies._improvement import most_improving
from nas.strategies._stepwise import Stepwise
from nas.strategies._tails import without_bad_tail

MIN_TO_FIT = 4
MUTANTS = 8
MOST_EXCESS = 2.0
SOFTNESS = 0.2
"""Share of a starting candidate's probability that is spread over all options."""


class GradientGuided(Stepwise):
    """Follows a surrogate's slope over relaxed candidates; asks for the best rounding on the way.

    A relaxed candidate has a probability for every option of every decision; these are the
    surrogate's features. From random candidates and the best measured ones, probabilities descend
    the predicted loss less `beta` standard deviations by exponentiated gradients; after each step
    the likeliest options make a candidate. Of these, and mutants of the best measured, the one is
    asked for whose prediction, as optimistic, adds most to the hypervolume of what was measured.
    Every descent weights the objectives by a random draw. Losses beyond the bad tail count as at
    its end (as in `PredictorGuided`), and what breaks constraints as worse than all that keeps
    them.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        surrogate: of losses by one-hot features; refitted in place.
        one_hot: `(n, d)` rows to `(n, options)` columns, decision by decision.
        n_initial: random candidates first.
        starts: relaxed candidates descended at once; half from the best, half random.
        steps: of the descent.
        rate: change of a log probability where the slope is steepest.
        beta: standard deviations of optimism.
        refit: finished trials between two fits.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Tuli et al. 2022 (FlexiBERT, BOSHNAS), gradient-based optimisation on the surrogate's
    input; there by second-order steps on a dense embedding, here on probabilities.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        surrogate: DifferentiablePredictor,
        one_hot: Callable[[Genotypes], NDArray[np.float32]],
        n_initial: int = 10,
        starts: int = 16,
        steps: int = 20,
        rate: float = 1.0,
        beta: float = 0.5,
        refit: int = 4,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._surrogate = surrogate
        self._one_hot = one_hot
        self._n_initial = n_initial
        self._starts = starts
        self._steps = steps
        self._rate = rate
        self._beta = beta
        self._refit = refit
        self._fitted_at = -1
        ends = np.cumsum(space.n_options)
        self._blocks = [slice(e - n, e) for e, n in zip(ends, space.n_options, strict=True)]

    def _next(
        self, rng: np.random.Generator, number: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        history = self._history
        early = number + history.n_recalled < self._n_initial or len(history) < MIN_TO_FIT
        if early or not self._fit():
            return history.random_row(rng, chosen, self._admissible)
        starts = self._first_rows(rng)
        weights = rng.dirichlet(np.ones(len(self._goals.objectives)), size=len(starts))
        mutants = self._space.mutate(np.repeat(starts, MUTANTS, axis=0), rng)
        rows = np.concatenate([self._descended(starts, weights), mutants])
        rows = rows[history.unseen(rows, chosen)]
        if self._admissible is not None:
            rows = rows[self._admissible(rows)]
        if not len(rows):
            return history.random_row(rng, chosen, self._admissible)
        found = self._surrogate.predict(self._one_hot(rows))
        known = np.stack([*history.rows(), *history.pending.values(), *chosen])
        expected = self._surrogate.predict(self._one_hot(known)).mean
        return rows[most_improving(found.mean - self._beta * found.std, expected, rng)]

    def _fit(self) -> bool:
        """Learn standardised losses; whether there were enough of them.

        When that was is a function of the number of trials alone, so a replay fits alike.
        """
        n = len(self._history)
        wanted = n - max(0, n - self._n_initial) % self._refit
        if self._fitted_at != wanted:
            losses, violations = (a[:wanted] for a in self._history.scores(self._goals))
            usable = np.isfinite(losses).all(axis=1)
            if usable.sum() < MIN_TO_FIT:
                return False
            rows = self._history.rows()[:wanted][usable]
            targets = _targets(losses[usable], violations[usable])
            self._surrogate.fit(self._one_hot(rows), targets)
            self._fitted_at = wanted
        return True

    def _first_rows(self, rng: np.random.Generator) -> Genotypes:
        """`(starts, d)` candidates to start from."""
        order = best_first(*self._history.scores(self._goals))
        best = self._history.rows()[order[: self._starts // 2]]
        return np.concatenate([best, self._space.sample(self._starts - len(best), rng)])

    def _descended(self, rows: Genotypes, weights: NDArray[np.float64]) -> Genotypes:
        """Every candidate that was the likeliest after some step, from `(k, d)` rows."""
        filled = np.where(rows < 0, 0, rows)  # what is inactive starts from its first option
        hard = np.concatenate(
            [np.eye(n)[filled[:, i]] for i, n in enumerate(self._space.n_options)], axis=1
        )
        even = np.concatenate([np.full(n, 1.0 / n) for n in self._space.n_options])
        logs = np.log((1 - SOFTNESS) * hard + SOFTNESS * even)
        passed = []
        for _ in range(self._steps):
            x = self._probabilities(logs)
            slope = self._surrogate.slope(x.astype(np.float32), weights, self._beta)
            steepest = np.abs(slope).max(axis=1, keepdims=True)
            logs -= self._rate * slope / np.where(steepest > 0, steepest, 1.0)
            likeliest = [logs[:, block].argmax(axis=1) for block in self._blocks]
            passed.append(np.stack(likeliest, axis=1).astype(np.int16))
        return self._space.canonical(np.concatenate(passed))

    def _probabilities(self, logs: NDArray[np.float64]) -> NDArray[np.float64]:
        """`(k, options)` softmax decision by decision."""
        x = np.empty_like(logs)
        for block in self._blocks:
            part = np.exp(logs[:, block] - logs[:, block].max(axis=1, keepdims=True))
            x[:, block] = part / part.sum(axis=1, keepdims=True)
        return x


def _targets(losses: NDArray[np.float64], violations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standardised `(n, m)` losses; of what breaks constraints the worst one, and the excess.

    Reference: Deb 2000, eq. 4 (what breaks constraints is worse than all that keeps them).
    """
    kept = np.stack([without_bad_tail(column) for column in losses.T], axis=1)
    spread = kept.std(axis=0)
    standard = (kept - kept.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    broken = violations > 0
    if broken.any():
        excess = np.minimum(violations / np.median(violations[broken]), MOST_EXCESS)
        standard[broken] = standard.max(axis=0) + excess[broken, None]
    return np.asarray(standard)
