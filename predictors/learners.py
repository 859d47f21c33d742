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
from predictors.encoders import with_costs, with_graphs
from predictors.registry import PREDICTORS, predictor
from predictors.warping import WarpedTargets

GRAPH = "graph"
LEARNERS = (*PREDICTORS, GRAPH)
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
        name: one of `LEARNERS`.
        seed: 0 to 2**31 - 1.
        space: of the rows.
        costs: `(n,)` columns by name of `(n, d)` rows.
        described: decisions that get no columns, as the costs say enough of them.
        graphs: rows as graphs; None where the space's cell says it, or none are known.

    Raises:
        UnknownNameError: no such predictor.
        InvalidInputError: a graph network where candidates are no graphs.
    """
    if name not in LEARNERS:
        raise UnknownNameError("predictor", name, LEARNERS)
    features = with_costs(space, costs, described)
    if name != GRAPH:
        return Learner(features, partial(predictor, name, seed))
    graphs = graphs or _cells_of(space)
    return Learner(with_graphs(graphs, features), partial(_graph, graphs, len(space), seed))


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
