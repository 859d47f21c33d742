"""How many candidates a list of decisions has, all of them, and those next to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.core.candidate import Genotypes
from nas.core.decision import Decision

INACTIVE = -1


def number_of_candidates(decisions: Sequence[Decision]) -> int:
    """The exact number of distinct candidates."""
    children: dict[str, list[Decision]] = {d.name: [] for d in decisions}
    for decision in decisions:
        if decision.condition is not None:
            children[decision.condition.parent].append(decision)
    counts: dict[str, int] = {}
    for decision in reversed(decisions):
        total = 0
        for option in decision.options:
            below = 1
            for child in children[decision.name]:
                if child.condition is not None and option in child.condition.values:
                    below *= counts[child.name]
            total += below
        counts[decision.name] = total
    product = 1
    for decision in decisions:
        if decision.condition is None:
            product *= counts[decision.name]
    return product


def all_rows(decisions: Sequence[Decision]) -> Genotypes:
    """`(size, d)` every candidate, the last decision changing fastest."""
    places = {d.name: i for i, d in enumerate(decisions)}
    rows = np.zeros((1, 0), dtype=np.int16)
    for decision in decisions:
        exists = np.ones(len(rows), dtype=np.bool_)
        if decision.condition is not None:
            j = places[decision.condition.parent]
            values = decision.condition.values
            allowed = [option in values for option in decisions[j].options]
            exists = np.array([*allowed, False])[rows[:, j]]
        repeats = np.where(exists, len(decision.options), 1)
        starts = np.repeat(np.cumsum(repeats) - repeats, repeats)
        option = np.arange(repeats.sum()) - starts
        column = np.where(np.repeat(exists, repeats), option, INACTIVE).astype(np.int16)
        rows = np.column_stack([np.repeat(rows, repeats, axis=0), column])
    return rows


def changed_once(row: Genotypes, n_options: Genotypes) -> Genotypes:
    """`(m, d)` the `(d,)` row with one active decision changed, inactive ones filled with 0."""
    filled = np.where(row == INACTIVE, np.int16(0), row)
    out = []
    for i in np.flatnonzero(row != INACTIVE):
        for option in range(int(n_options[i])):
            if option != row[i]:
                changed = filled.copy()
                changed[i] = option
                out.append(changed)
    return np.stack(out) if out else np.empty((0, len(row)), dtype=np.int16)
