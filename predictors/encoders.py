"""Genotypes as features: one-hot, ordinal, the structure of cells, and closed-form costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.core import CostTable, Genotypes, SearchSpace, UnknownNameError
from nas.core.cell_features import graph_features
from nas.core.graphs import Graphing, cell_graphs

Features = NDArray[np.float32]


def encode(space: SearchSpace, rows: Genotypes) -> Features:
    """`(n, f)` features of `(n, d)` rows, column by column as `feature_names` says.

    Ordered decisions give their place among the options, 0 to 1, and -1 where inactive;
    unordered ones give one column per option, all 0 where inactive.
    """
    return np.concatenate([_block(space, rows, i) for i in range(len(space))], axis=1)


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
    space: SearchSpace,
    costs: Callable[[Genotypes], CostTable],
    described: Sequence[str] = (),
) -> Callable[[Genotypes], Features]:
    """A function from rows to features for a predictor.

    They are `encode`'s columns, then log(1 + structural feature) where the space has a cell, then
    log(1 + cost). A cell's edges and operators themselves have no columns: a network is the same
    whatever the order of its vertices, and few rows teach more about structure than about places.

    Args:
        space: of the rows.
        costs: `(n,)` columns by name of `(n, d)` rows.
        described: further decisions that get no columns, as the costs say enough of them.

    Raises:
        UnknownNameError: the space has no such decision.
    """
    left_out = described_columns(space, described)
    plain = [i for i in range(len(space)) if i not in left_out]
    return partial(_encode_with_costs, space, costs, plain)


def described_columns(space: SearchSpace, described: Sequence[str] = ()) -> list[int]:
    """Which decisions of a space `with_costs` gives no columns: its cell's, and those named.

    Raises:
        UnknownNameError: the space has no such decision.
    """
    for name in described:
        if name not in space.column:
            raise UnknownNameError("described", name, space.names)
    cell = () if space.cell is None else (*space.cell.operators, *space.cell.edges)
    return [i for i, name in enumerate(space.names) if name in {*described, *cell}]


def with_options(
    space: SearchSpace, features: Callable[[Genotypes], Features], decisions: Sequence[int]
) -> Callable[[Genotypes], Features]:
    """A function from rows to what `features` says, then a column per option of `decisions`."""
    return partial(_encode_with_options, space, features, decisions)


def with_graphs(
    graphs: Graphing, features: Callable[[Genotypes], Features]
) -> Callable[[Genotypes], Features]:
    """A function from rows to features for a graph network.

    They are the `v * v` edges of the row's graph, then its `v * (2 + operators)` labels, vertex by
    vertex, then what `features` says.
    """
    return partial(_encode_with_graphs, graphs, features)


def _encode_with_options(
    space: SearchSpace,
    features: Callable[[Genotypes], Features],
    decisions: Sequence[int],
    rows: Genotypes,
) -> Features:
    options = [_one_hot(space, rows, i) for i in decisions]
    return np.concatenate([features(rows), *options], axis=1)


def _encode_with_graphs(
    graphs: Graphing, features: Callable[[Genotypes], Features], rows: Genotypes
) -> Features:
    found = graphs(rows)
    parts = [part.reshape(len(rows), -1).astype(np.float32) for part in (found.edges, found.labels)]
    return np.concatenate([*parts, features(rows)], axis=1)


def _encode_with_costs(
    space: SearchSpace,
    costs: Callable[[Genotypes], CostTable],
    plain: Sequence[int],
    rows: Genotypes,
) -> Features:
    structure = {} if space.cell is None else graph_features(cell_graphs(space, rows))
    columns = [*structure.values(), *costs(rows).values()]
    logs = [np.log1p(column)[:, None].astype(np.float32) for column in columns]
    return np.concatenate([*(_block(space, rows, i) for i in plain), *logs], axis=1)


def _block(space: SearchSpace, rows: Genotypes, i: int) -> Features:
    return _ordinal(space, rows, i) if space.decisions[i].ordered else _one_hot(space, rows, i)


def _ordinal(space: SearchSpace, rows: Genotypes, i: int) -> Features:
    n_options = len(space.decisions[i].options)
    table = np.append(np.linspace(0.0, 1.0, n_options), -1.0).astype(np.float32)
    return table[rows[:, i], None]


def _one_hot(space: SearchSpace, rows: Genotypes, i: int) -> Features:
    n_options = len(space.decisions[i].options)
    table = np.vstack([np.eye(n_options), np.zeros(n_options)]).astype(np.float32)
    return table[rows[:, i]]
