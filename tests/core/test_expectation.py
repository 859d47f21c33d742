from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.core import Condition, Decision, Genotypes, SearchSpace
from nas.core.expectation import expected

SPACE = SearchSpace(
    (
        Decision("width", (1, 2, 4)),
        Decision("bits", (4, 8, 32)),
        Decision("grain", ("tensor", "channel"), Condition("bits", (4, 8)), ordered=False),
    )
)
PROBABILITIES = [np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.3, 0.1]), np.array([0.25, 0.75])]


def product(rows: Genotypes) -> NDArray[np.float64]:
    """Two costs with interactions; one that only an active last decision changes."""
    width, bits = np.array([1.0, 2, 4])[rows[:, 0]], np.array([4.0, 8, 32])[rows[:, 1]]
    return np.stack([width * bits, width * (rows[:, 2] == 1)], axis=1)


def total(rows: Genotypes) -> NDArray[np.float64]:
    return (rows.astype(np.float64) @ np.array([1.0, 10.0, 100.0]))[:, None]


def by_hand(probabilities: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    found = np.zeros(2)
    for i, p in enumerate(probabilities[0]):
        for j, q in enumerate(probabilities[1]):
            for k, r in enumerate(probabilities[2]):
                row = SPACE.canonical(np.array([[i, j, k]], dtype=np.int16))
                found += p * q * r * product(row)[0]
    return found


def test_expectation_and_slopes_are_those_of_all_candidates_weighed_by_hand() -> None:
    rng = np.random.default_rng(0)
    values, slopes = expected(SPACE, PROBABILITIES, product, rng, n=20_000)
    assert values == pytest.approx(by_hand(PROBABILITIES), rel=0.02)
    for i, p in enumerate(PROBABILITIES):
        for option in range(len(p)):
            given = [q.copy() for q in PROBABILITIES]
            given[i] = np.eye(len(p))[option]
            assert slopes[i][option] == pytest.approx(by_hand(given), rel=0.03)


def test_a_certain_distribution_costs_what_its_candidate_costs() -> None:
    certain = [np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0])]
    values, _ = expected(SPACE, certain, product, np.random.default_rng(0), n=1)
    assert values.tolist() == [64.0, 0.0]


def test_of_sums_the_expectation_and_differences_between_slopes_are_exact() -> None:
    free = SearchSpace(
        (*SPACE.decisions[:1], Decision("bits", (4, 8, 32)), Decision("grain", (0, 1)))
    )
    value, slopes = expected(free, PROBABILITIES, total, np.random.default_rng(0), n=3)
    means = [float(p @ np.arange(len(p))) for p in PROBABILITIES]
    assert value == pytest.approx(np.array(means) @ [1, 10, 100])
    for slope, unit in zip(slopes, (1, 10, 100), strict=True):
        assert np.diff(slope[:, 0]) == pytest.approx(unit)
