"""Strategies by name: their settings, their defaults, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core import (
    CostTable,
    DifferentiablePredictor,
    Fidelity,
    Genotypes,
    Goals,
    InvalidInputError,
    Learner,
    SearchSpace,
    SearchStrategy,
    UnknownNameError,
)
from nas.core.importing import imported, is_path
from nas.strategies._history import Admissible
from nas.strategies._narrowing import Narrowing
from nas.strategies.cross_entropy import CrossEntropy
from nas.strategies.differential_evolution import DifferentialEvolution
from nas.strategies.evolution import RegularizedEvolution
from nas.strategies.gradient_guided import GradientGuided
from nas.strategies.local_search import LocalSearch
from nas.strategies.nsga import NSGA2, NSGA3
from nas.strategies.optuna import OptunaSearch
from nas.strategies.predictor_guided import PredictorGuided
from nas.strategies.random import RandomSearch
from nas.strategies.successive_halving import SuccessiveHalving


@dataclass(frozen=True)
class Setting:
    """A number a user may set, and where it must lie."""

    kind: type[int] | type[float]
    least: float
    most: float


@dataclass(frozen=True)
class Word:
    """A name a user may set; whoever takes it checks it."""


@dataclass(frozen=True)
class SearchContext:
    """What a strategy may need to be made; most use only part of it.

    Attributes:
        space: what to search.
        goals: objectives and constraints.
        seed: of all draws.
        n_trials: that the budget allows; defaults fit themselves to it.
        fidelity: of the tasks.
        admissible: which rows may be asked at all; None for every row.
        costs: closed-form columns of `(n, d)` rows.
        learner: a predictor by name, and the features it learns from.
        default_predictor: the name where none is set.
        one_hot: `(n, d)` rows to a column per option, decision by decision.
        surrogate: makes a fresh differentiable predictor.
        narrow: which options only do harm, by rows and losses; None where nobody can tell.
    """

    space: SearchSpace
    goals: Goals
    seed: int
    n_trials: int
    fidelity: Fidelity
    admissible: Admissible | None
    costs: Callable[[Genotypes], CostTable]
    learner: Callable[[str], Learner]
    default_predictor: str
    one_hot: Callable[[Genotypes], NDArray[np.float32]]
    surrogate: Callable[[], DifferentiablePredictor]
    narrow: Narrowing | None = None


Options = dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    """One strategy: its settings, and how it is made of a context and checked options."""

    settings: Mapping[str, Setting | Word]
    make: Callable[[SearchContext, Options], SearchStrategy]


def _of_goals(
    strategy: Callable[..., SearchStrategy], defaults: Callable[[int], Options]
) -> Callable[[SearchContext, Options], SearchStrategy]:
    """Makes a `strategy` of space, goals and seed; `defaults` of the trials allowed."""

    def make(context: SearchContext, options: Options) -> SearchStrategy:
        return _made(strategy, context, defaults(context.n_trials) | options)

    return make


def _made(
    strategy: Callable[..., SearchStrategy], context: SearchContext, settings: Options
) -> SearchStrategy:
    return strategy(
        context.space,
        context.goals,
        context.seed,
        fidelity=context.fidelity,
        admissible=context.admissible,
        **settings,
    )


def _random(context: SearchContext, _: Options) -> SearchStrategy:
    return RandomSearch(context.space, context.seed, context.fidelity, context.admissible)


def _evolution_defaults(n_trials: int) -> Options:
    population = min(50, max(4, n_trials // 2))
    return {"population": population, "sample": 2 * population // 3}


def _predictor_guided(context: SearchContext, options: Options) -> SearchStrategy:
    learner = context.learner(options.pop("predictor", context.default_predictor))
    given = {
        "predictor": learner.predictor(),
        "featurize": learner.featurize,
        "costs": context.costs,
        "beta": 0.5 if len(context.goals.objectives) == 1 else 1.0,
        "narrow": context.narrow if options.pop("narrowing", 0) == 1 else None,
    }
    return _made(PredictorGuided, context, given | _few_first(context.n_trials, 6) | options)


def _gradient_guided(context: SearchContext, options: Options) -> SearchStrategy:
    given = {"surrogate": context.surrogate(), "one_hot": context.one_hot}
    return _made(GradientGuided, context, given | _few_first(context.n_trials, 10) | options)


def _few_first(n_trials: int, most: int) -> Options:
    return {"n_initial": min(most, max(4, n_trials // 4))}


_POPULATION = Setting(int, 2, 100_000)
_SHARE = Setting(float, 0.0, 1.0)
_GENETIC = {"population": _POPULATION, "crossover": _SHARE, "mutation": _SHARE}

_ENTRIES: Mapping[str, _Entry] = {
    "random": _Entry({}, _random),
    "local-search": _Entry(
        {"n_initial": Setting(int, 1, 100_000)},
        _of_goals(LocalSearch, lambda n: {"n_initial": min(10, max(2, n // 5))}),
    ),
    "regularized-evolution": _Entry(
        {"population": _POPULATION, "sample": Setting(int, 1, 100_000), "mutation": _SHARE},
        _of_goals(RegularizedEvolution, _evolution_defaults),
    ),
    "differential-evolution": _Entry(
        {
            "population": Setting(int, 4, 100_000),
            "scale": Setting(float, 0.0, 2.0),
            "crossover": _SHARE,
        },
        _of_goals(DifferentialEvolution, lambda n: {"population": min(20, max(5, n // 10))}),
    ),
    "nsga2": _Entry(_GENETIC, _of_goals(NSGA2, lambda n: {"population": min(50, max(6, n // 8))})),
    "nsga3": _Entry(_GENETIC, _of_goals(NSGA3, lambda n: {"population": min(50, max(6, n // 4))})),
    "cross-entropy": _Entry(
        {
            "population": _POPULATION,
            "elite": Setting(float, 0.01, 1.0),
            "smoothing": _SHARE,
            "floor": _SHARE,
        },
        _of_goals(CrossEntropy, lambda n: {"population": min(50, max(5, n // 10))}),
    ),
    "optuna-tpe": _Entry(
        {"n_initial": _POPULATION},
        _of_goals(
            partial(OptunaSearch, sampler="tpe"), lambda n: {"n_initial": min(10, max(2, n // 4))}
        ),
    ),
    "optuna-gp": _Entry(
        {"n_initial": _POPULATION},
        _of_goals(
            partial(OptunaSearch, sampler="gp"), lambda n: {"n_initial": min(10, max(2, n // 4))}
        ),
    ),
    "optuna-nsga2": _Entry(
        {"n_initial": _POPULATION},
        _of_goals(
            partial(OptunaSearch, sampler="nsga2"), lambda n: {"n_initial": min(50, max(6, n // 8))}
        ),
    ),
    "predictor-guided": _Entry(
        {
            "n_initial": Setting(int, 2, 100_000),
            "pool": Setting(int, 16, 1_000_000),
            "beta": Setting(float, 0.0, 100.0),
            "generations": Setting(int, 1, 1000),
            "refit": Setting(int, 1, 1_000_000),
            "predictor": Word(),
            "narrowing": Setting(int, 0, 1),
        },
        _predictor_guided,
    ),
    "gradient-guided": _Entry(
        {
            "n_initial": Setting(int, 2, 100_000),
            "starts": Setting(int, 2, 10_000),
            "steps": Setting(int, 1, 10_000),
            "rate": Setting(float, 1e-6, 100.0),
            "beta": Setting(float, 0.0, 100.0),
            "refit": Setting(int, 1, 1_000_000),
        },
        _gradient_guided,
    ),
}

HALVING: Mapping[str, Setting | Word] = {
    "rungs": Setting(int, 1, 10),
    "reduction": Setting(int, 2, 100),
}
"""Settings every strategy has: rungs of successive halving (1 is none), and their reduction."""

STRATEGIES: Mapping[str, Mapping[str, Setting | Word]] = {
    name: {**entry.settings, **HALVING} for name, entry in _ENTRIES.items()
}
"""Names of the strategies and their settings."""


def require_strategy(field: str, name: str) -> None:
    """Refuse a name under which there is no strategy.

    Raises:
        UnknownNameError: none of `STRATEGIES`.
        InvalidInputError: a path that leads to no strategy.
    """
    if is_path(name):
        imported(field, name, SearchStrategy)  # type: ignore[type-abstract]
    elif name not in STRATEGIES:
        raise UnknownNameError(field, name, STRATEGIES)


def make_strategy(
    name: str, context: SearchContext, options: Mapping[str, object]
) -> SearchStrategy:
    """A fresh strategy `name`; what `options` leave open fits the number of trials.

    Args:
        name: one of `STRATEGIES`, or `package.module:Name` of your own, which is made of the
            context's space, goals and seed, and by name of `fidelity`, `admissible` and `options`.
        context: what it may need.
        options: its settings, and those of `HALVING`.

    Raises:
        UnknownNameError: no such strategy, or no such setting.
        InvalidInputError: a value of the wrong kind, out of range, or more rungs than trials.
    """
    checked = dict(checked_options(name, options))
    rungs, reduction = int(checked.pop("rungs", 1)), int(checked.pop("reduction", 3))
    if rungs > context.n_trials:  # a rung takes the effort of a whole trial to fill
        raise InvalidInputError(
            "strategy.options.rungs",
            rungs,
            f"at most {context.n_trials}, the number of trials: else none gets full effort",
        )
    make = partial(_own, name) if is_path(name) else _ENTRIES[name].make
    search = make(context, checked)
    if rungs == 1:
        return search
    return SuccessiveHalving(search, context.goals, context.fidelity, reduction, rungs)


def checked_options(name: str, options: Mapping[str, object]) -> Options:
    """`options` of strategy `name`, checked.

    Raises:
        UnknownNameError: no such strategy, or no such setting.
        InvalidInputError: a value of the wrong kind, or out of range.
    """
    require_strategy("strategy", name)
    known = HALVING if is_path(name) else STRATEGIES[name]
    checked: Options = {}
    for option, value in options.items():
        if option not in known:
            if is_path(name):
                checked[option] = value  # its constructor knows
                continue
            raise UnknownNameError(f"strategy {name}", option, known)
        setting = known[option]
        field = f"strategy.options.{option}"
        checked[option] = (
            _word(field, value) if isinstance(setting, Word) else _number(field, value, setting)
        )
    return checked


def _own(path: str, context: SearchContext, options: Options) -> SearchStrategy:
    """A strategy of the user's."""
    kind = imported("strategy", path, SearchStrategy)  # type: ignore[type-abstract]
    try:
        return _made(kind, context, options)
    except TypeError as error:
        raise InvalidInputError(
            "strategy.options", options, f"what {path} is made of ({error})"
        ) from error


def _word(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(field, value, "a name")
    return value


def _number(field: str, value: object, setting: Setting) -> int | float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or (setting.kind is int and not isinstance(value, int)):
        kind = "a whole number" if setting.kind is int else "a number"
        raise InvalidInputError(field, value, kind)
    assert isinstance(value, (int, float))
    if not setting.least <= value <= setting.most:
        raise InvalidInputError(field, value, f"from {setting.least:g} to {setting.most:g}")
    return setting.kind(value)
