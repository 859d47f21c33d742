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
        effect: mean contribution to the target, in its units, over the rows that have the option.
        support: how many rows those are.
    """

    decision: str
    option: Value
    effect: float
    support: int


def harmful_options(
    space: SearchSpace,
    rows: Genotypes,
    y: NDArray[np.float64],
    maximise: bool = True,
    incumbents: Genotypes | None = None,
    max_options: int = 20,
    min_support: int = 5,
    min_effect: float = 0.05,
    seed: int = 0,
) -> tuple[HarmfulOption, ...]:
    """Options whose mean SHAP value over the rows that have them is on the wrong side, worst first.

    No decision loses its last option, and no option of an incumbent goes. Departures from the
    paper: values of a decision's one-hot columns are added up, as trees put the credit of two
    options on either column; and an effect has to exceed `min_effect`. After 50 to 200 random
    cells of NAS-Bench-201 a threshold of 0 lost every one of the best 0.1 % in 4 of 60 draws, 0.05
    in none, leaving a fifth to a tenth of the space.

    Args:
        space: of the rows.
        rows: `(n, d)` measured candidates.
        y: `(n,)` metric.
        maximise: whether more of the metric is better.
        incumbents: `(k, d)` candidates that must stay, for example the measured front.
        max_options: at most this many.
        min_support: rows that must have an option.
        min_effect: in standard deviations of `y`.
        seed: of the trees.

    Returns:
        nothing where `y` is constant or has too few rows to be explained.

    Reference: Luo et al. 2020 (GBDT-NAS), first-order pruning of the search space.
    """
    if len(rows) < max(min_support, MIN_EXPLAINED) or np.ptp(y) == 0.0:
        return ()
    features = one_hot(space, rows)
    trees = GradientBoostedTrees(seed=seed).fit(features, y[:, None])
    owner = np.repeat(np.arange(len(space)), space.n_options)
    by_decision = trees.contributions(features) @ np.eye(len(space))[owner]  # (n, d)
    support = (features > 0).sum(axis=0)
    effects = (features * by_decision[:, owner]).sum(axis=0) / np.maximum(support, 1)
    gains = effects if maximise else -effects
    judged = (support >= min_support) & (gains < -min_effect * y.std())
    if incumbents is not None:
        judged &= ~(one_hot(space, incumbents) > 0).any(axis=0)
    return _worst(space, gains, effects, support, judged, max_options)


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


def without_harm(
    space: SearchSpace, rows: Genotypes, harmful: Sequence[HarmfulOption]
) -> NDArray[np.bool_]:
    """`(n,)` which of `(n, d)` rows have none of these options."""
    mask = np.ones(len(rows), dtype=np.bool_)
    for found in harmful:
        i = space.column[found.decision]
        mask &= rows[:, i] != space.decisions[i].options.index(found.option)
    return mask


def _worst(
    space: SearchSpace,
    gains: NDArray[np.float64],
    effects: NDArray[np.float64],
    support: NDArray[np.int64],
    judged: NDArray[np.bool_],
    max_options: int,
) -> tuple[HarmfulOption, ...]:
    """The worst of the options judged, leaving each decision one."""
    places = [(d, option) for d in space.decisions for option in d.options]
    left = {d.name: len(d.options) for d in space.decisions}
    found: list[HarmfulOption] = []
    for column in np.argsort(gains, kind="stable"):
        decision, option = places[column]
        if len(found) == max_options:
            break
        if judged[column] and left[decision.name] > 1:
            left[decision.name] -= 1
            effect, rows = float(effects[column]), int(support[column])
            found.append(HarmfulOption(decision.name, option, effect, rows))
    return tuple(found)
