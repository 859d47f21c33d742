"""Optuna's samplers behind ask and tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    Constraint,
    Fidelity,
    Genotypes,
    Goals,
    Relation,
    SearchSpace,
)
from nas.strategies._history import Admissible
from nas.strategies._stepwise import Stepwise


class Sampler(StrEnum):
    """Which of Optuna's samplers proposes."""

    TPE = "tpe"
    """Tree-structured Parzen estimator over all decisions together (multivariate)."""
    GP = "gp"
    """Gaussian process with expected (hypervolume) improvement; seconds per candidate."""
    NSGA2 = "nsga2"
    """NSGA-II in generations of completed trials."""


class OptunaSearch(Stepwise):
    """Asks a study of the told results, with a fresh sampler seeded by the trial's number.

    What an ask leaves in the study is told to it as failed, which samplers ignore; so the next ask
    finds it as a study newly made of the same results would be.

    Ordered numbers are integers to Optuna, everything else is categorical; there is a parameter
    for every decision, and where a decision is inactive its value means nothing and is drawn at
    random. Running trials are running to Optuna, failed ones and those without all metrics do not
    exist. Constraints are passed on as signed relative gaps. A candidate asked before is mutated.
    Generations of NSGA-II are counted by finished trials, so none waits for its slowest.

    Args:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        sampler: which one.
        n_initial: completed trials before the sampler learns; the population of NSGA-II.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.

    Reference: Akiba et al. 2019 (Optuna); Watanabe 2023 (its TPE), with the constant liar for
    running trials.
    """

    def __init__(
        self,
        space: SearchSpace,
        goals: Goals,
        seed: int,
        sampler: Sampler | str = Sampler.TPE,
        n_initial: int = 10,
        fidelity: Fidelity = Fidelity.TRAINED,
        admissible: Admissible | None = None,
    ) -> None:
        super().__init__(space, seed, fidelity, admissible)
        self._goals = goals
        self._sampler = Sampler(sampler)
        self._n_initial = n_initial
        self._distributions: dict[str, Any] = {}
        self._study: Any = None
        self._n_considered = 0
        self._n_told = 0

    def _next(
        self, rng: np.random.Generator, _: int, chosen: Sequence[Genotypes]
    ) -> Genotypes | None:
        with _quiet() as optuna:
            self._update(optuna)
            for row in (*self._history.pending.values(), *chosen):
                running = self._frozen(optuna, row, state=optuna.trial.TrialState.RUNNING)
                self._study.add_trial(running)
            found = self._asked(optuna, int(rng.integers(2**31)))
        row = np.array([[found.get(name, 0) for name in self._space.names]], dtype=np.int16)
        row = self._space.canonical(row)[0]
        return self._history.near_row(row, rng, chosen, self._admissible)

    def _new_sampler(self, optuna: Any, seed: int) -> Any:
        match self._sampler:
            case Sampler.TPE:
                return optuna.samplers.TPESampler(
                    n_startup_trials=self._n_initial,
                    multivariate=True,
                    constant_liar=True,
                    seed=seed,
                )
            case Sampler.GP:
                return optuna.samplers.GPSampler(n_startup_trials=self._n_initial, seed=seed)
            case Sampler.NSGA2:
                return optuna.samplers.NSGAIISampler(population_size=self._n_initial, seed=seed)
            case _:
                assert_never(self._sampler)

    def _asked(self, optuna: Any, seed: int) -> dict[str, int]:
        """Parameters the sampler proposes; whatever runs in the study is then told as failed."""
        self._study.sampler = self._new_sampler(optuna, seed)
        params = self._study.ask(self._distributions).params
        running = (optuna.trial.TrialState.RUNNING,)
        for trial in self._study.get_trials(deepcopy=False, states=running):
            self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return dict(params)

    def _update(self, optuna: Any) -> None:
        """Tell the study what has been completed since the last time; the first call makes it."""
        if self._study is None:
            self._distributions = dict(_distributions(optuna, self._space))
            directions = ["minimize"] * len(self._goals.objectives)
            self._study = optuna.create_study(directions=directions)
        last = len(self._history) - self._n_considered
        self._n_considered += last
        if not last:
            return
        rows = self._history.rows(last)
        losses, _ = self._history.scores(self._goals, last)
        gaps = self._gaps(last)
        # NSGA-II notes its generation in the trials it proposes; there is no public way to do so.
        generation = optuna.samplers.NSGAIISampler._get_generation_key()
        for i in np.flatnonzero(np.isfinite(losses).all(axis=1) & np.isfinite(gaps).all(axis=1)):
            trial = self._frozen(
                optuna,
                rows[i],
                values=losses[i].tolist(),
                constraints={str(j): gap for j, gap in enumerate(gaps[i].tolist())},
                system_attrs={generation: self._n_told // self._n_initial},
            )
            self._study.add_trial(trial)
            self._n_told += 1
            if self._sampler is Sampler.NSGA2 and self._n_told % self._n_initial == 0:
                self._asked(optuna, 0)  # the first ask of a generation settles its parents

    def _frozen(self, optuna: Any, row: Genotypes, **result: Any) -> Any:
        """Optuna's trial of one candidate; inactive decisions get an option as good as random."""
        key = int(self._space.keys(row[None])[0])
        filled = np.where(row < 0, key % self._space.n_options.astype(np.uint64), row)
        pairs = zip(self._space.names, filled.tolist(), strict=True)
        params = {name: int(option) for name, option in pairs if name in self._distributions}
        return optuna.trial.create_trial(params=params, distributions=self._distributions, **result)

    def _gaps(self, last: int) -> NDArray[np.float64]:
        """`(last, c)` how far the last candidates are beyond each bound; at most 0 is met."""
        columns = self._history.columns(self._goals.metrics, last)
        gaps = [_gap(c, columns[c.metric]) for c in self._goals.constraints]
        return np.stack(gaps, axis=1) if gaps else np.empty((last, 0))


def _distributions(optuna: Any, space: SearchSpace) -> Iterator[tuple[str, Any]]:
    """Distribution of option indices per decision that has a choice."""
    for decision in space.decisions:
        n = len(decision.options)
        if n > 1 and decision.ordered and decision.numeric:
            yield decision.name, optuna.distributions.IntDistribution(0, n - 1)
        elif n > 1:
            yield decision.name, optuna.distributions.CategoricalDistribution(range(n))


def _gap(constraint: Constraint, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distance of each value beyond the bound, relative to the bound's size."""
    sign = 1.0 if constraint.relation is Relation.AT_MOST else -1.0
    return sign * (values - constraint.bound) / max(abs(constraint.bound), 1e-12)


@contextmanager
def _quiet() -> Iterator[Any]:
    """Optuna, without its log lines and its warnings about experimental parts."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(verbosity)
