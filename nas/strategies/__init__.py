"""Search strategies behind ask and tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas.core import InvalidInputError, UnknownNameError
from nas.strategies.evolution import RegularizedEvolution
from nas.strategies.finalists import Finalists
from nas.strategies.predictor_guided import PredictorGuided
from nas.strategies.random import RandomSearch
from nas.strategies.shared import SharedFirst

__all__ = [
    "STRATEGIES",
    "Finalists",
    "PredictorGuided",
    "RandomSearch",
    "RegularizedEvolution",
    "Setting",
    "SharedFirst",
    "checked_options",
]


@dataclass(frozen=True)
class Setting:
    """A number a user may set, and where it must lie."""

    kind: type[int] | type[float]
    least: float
    most: float


STRATEGIES: Mapping[str, Mapping[str, Setting]] = {
    "random": {},
    "regularized-evolution": {
        "population": Setting(int, 2, 100_000),
        "sample": Setting(int, 1, 100_000),
        "mutation": Setting(float, 0.0, 1.0),
    },
    "predictor-guided": {
        "n_initial": Setting(int, 2, 100_000),
        "pool": Setting(int, 16, 1_000_000),
        "beta": Setting(float, 0.0, 100.0),
    },
}
"""Names of the strategies and their settings."""


def checked_options(name: str, options: Mapping[str, object]) -> dict[str, int | float]:
    """`options` of strategy `name`, checked.

    Raises:
        UnknownNameError: no such strategy, or no such setting.
        InvalidInputError: a value of the wrong kind, or out of range.
    """
    if name not in STRATEGIES:
        raise UnknownNameError("strategy", name, STRATEGIES)
    checked: dict[str, int | float] = {}
    for option, value in options.items():
        if option not in STRATEGIES[name]:
            raise UnknownNameError(f"strategy {name}", option, STRATEGIES[name])
        setting = STRATEGIES[name][option]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (setting.kind is int and not isinstance(value, int)):
            kind = "a whole number" if setting.kind is int else "a number"
            raise InvalidInputError(f"strategy.options.{option}", value, kind)
        assert isinstance(value, (int, float))
        if not setting.least <= value <= setting.most:
            expected = f"from {setting.least:g} to {setting.most:g}"
            raise InvalidInputError(f"strategy.options.{option}", value, expected)
        checked[option] = setting.kind(value)
    return checked
