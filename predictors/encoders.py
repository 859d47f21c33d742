"""Genotypes as features: one-hot, ordinal, and closed-form costs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.core import CostTable, Genotypes, SearchSpace

Features = NDArray[np.float32]


def encode(space: SearchSpace, rows: Genotypes) -> Features:
    """`(n, f)` features of `(n, d)` rows, column by column as `feature_names` says.

    Ordered decisions give their place among the options, 0 to 1, and -1 where inactive;
    unordered ones give one column per option, all 0 where inactive.
    """
    blocks = [
        _ordinal(space, rows, i) if decision.ordered else _one_hot(space, rows, i)
        for i, decision in enumerate(space.decisions)
    ]
    return np.concatenate(blocks, axis=1)


def feature_names(space: SearchSpace) -> list[str]:
    """Names of the columns of `encode`; an unordered decision's end in `=option`."""
    names: list[str] = []
    for decision in space.decisions:
        if decision.ordered:
            names.append(decision.name)
        else:
            names += [f"{decision.name}={option}" for option in decision.options]
    return names


def one_hot(space: SearchSpace, rows: Genotypes) -> Features:
    """`(n, o)` features of `(n, d)` rows: a column per option of every decision, ordered or not.

    A decision's columns are all 0 where it is inactive.
    """
    blocks = [_one_hot(space, rows, i) for i in range(len(space))]
    return np.concatenate(blocks, axis=1)


def with_costs(
    space: SearchSpace, costs: Callable[[Genotypes], CostTable]
) -> Callable[[Genotypes], Features]:
    """A function from rows to `encode`'s features with log(1 + cost) columns appended."""
    return partial(_encode_with_costs, space, costs)


def _encode_with_costs(
    space: SearchSpace, costs: Callable[[Genotypes], CostTable], rows: Genotypes
) -> Features:
    table = costs(rows)
    logs = [np.log1p(column)[:, None].astype(np.float32) for column in table.values()]
    return np.concatenate([encode(space, rows), *logs], axis=1)


def _ordinal(space: SearchSpace, rows: Genotypes, i: int) -> Features:
    n_options = len(space.decisions[i].options)
    table = np.append(np.linspace(0.0, 1.0, n_options), -1.0).astype(np.float32)
    return table[rows[:, i], None]


def _one_hot(space: SearchSpace, rows: Genotypes, i: int) -> Features:
    n_options = len(space.decisions[i].options)
    table = np.vstack([np.eye(n_options), np.zeros(n_options)]).astype(np.float32)
    return table[rows[:, i]]
