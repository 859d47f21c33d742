"""Predictors by name, each with the features it learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from nas.core import (
    CostTable,
    Genotypes,
    InvalidInputError,
    Learner,
    Predictor,
    SearchSpace,
    UnknownNameError,
)
from nas.core.graphs import Graphing, cell_graphs
from nas.core.importing import is_path
from predictors.encoders import Features, described_columns, with_costs, with_graphs, with_options
from predictors.registry import PREDICTORS, STACKED, predictor
from predictors.stacking import StackedProcesses
from predictors.warping import WarpedTargets

GRAPH = "graph"
LEARNERS = (*PREDICTORS, STACKED, GRAPH)
"""Names of the predictors a user may choose; the last for candidates that are graphs."""


def learner(
    name: str,
    seed: int,
    space: SearchSpace,
    costs: Callable[[Genotypes], CostTable],
    described: Sequence[str] = (),
    graphs: Graphing | None = None,
) -> Learner:
    """Predictor `name` with default settings, and what it sees of a space's candidates.

    Args:
        name: one of `LEARNERS`, or the path of your own.
        seed: 0 to 2**31 - 1.
        space: of the rows.
        costs: `(n,)` columns by name of `(n, d)` rows.
        described: decisions that get no columns, as the costs say enough of them.
        graphs: rows as graphs; None where the space's cell says it, or none are known.

    Raises:
        UnknownNameError: no such predictor.
        InvalidInputError: a graph network where candidates are no graphs.
    """
    if name not in LEARNERS and not is_path(name):
        raise UnknownNameError("predictor", name, LEARNERS)
    features = with_costs(space, costs, described)
    if name == STACKED:
        return _stacked(features, described_columns(space, described), space, seed)
    if name != GRAPH:
        return Learner(features, partial(predictor, name, seed))
    graphs = graphs or _cells_of(space)
    return Learner(with_graphs(graphs, features), partial(_graph, graphs, len(space), seed))


def _stacked(
    features: Callable[[Genotypes], Features],
    left_out: Sequence[int],
    space: SearchSpace,
    seed: int,
) -> Learner:
    """Processes of the features and of the options they leave out; one where they leave none."""
    if not left_out:
        return Learner(features, partial(predictor, "gaussian-process", seed))
    n_features = features(space.sample(1, np.random.default_rng(0))).shape[1]
    views = slice(0, n_features), slice(n_features, None)
    return Learner(with_options(space, features, left_out), partial(StackedProcesses, views, seed))


def _cells_of(space: SearchSpace) -> Graphing:
    if space.cell is None:
        others = ", ".join(PREDICTORS)
        raise InvalidInputError(
            "strategy.options.predictor",
            GRAPH,
            f"it learns from cells, which this space has not; use one of {others}",
        )
    return partial(cell_graphs, space)


def _graph(graphs: Graphing, n_decisions: int, seed: int) -> Predictor:
    from predictors.graph import GraphEnsemble  # torch takes seconds to import

    shape = graphs(np.empty((0, n_decisions), dtype=np.int16)).labels.shape
    return WarpedTargets(partial(GraphEnsemble, shape[1], shape[2], seed=seed))
