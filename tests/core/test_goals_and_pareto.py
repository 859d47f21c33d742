from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nas.core import (
    Candidate,
    Constraint,
    Direction,
    Evaluate,
    Fidelity,
    Goals,
    InvalidInputError,
    Objective,
    Trial,
    front_of,
    hypervolume,
    non_dominated,
    reference_point,
)
from nas.core.pareto import covering, ranks

points = arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(2, 3)), elements=st.integers(0, 5)
)


@pytest.mark.parametrize(
    ("text", "direction"),
    [
        ("accuracy", "max"),
        ("true_class_probability", "max"),
        ("latency_ms", "min"),
        ("latency_ms@rpi4:min", "min"),
        ("x:max", "max"),
    ],
)
def test_objective_parses_with_a_sensible_direction(text: str, direction: str) -> None:
    objective = Objective.parse(text)
    assert objective.direction == Direction(direction)
    assert Objective.parse(str(objective)) == objective


@pytest.mark.parametrize("text", ["", "a b", "x:up", "x<=3", "3x"])
def test_bad_objectives_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="objective"):
        Objective.parse(text)


@pytest.mark.parametrize("text", ["x<3", "x<=", "x<=fast", "<=3", "x<=nan", "x<=inf"])
def test_bad_constraints_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="constraint"):
        Constraint.parse(text)


def test_excess_is_relative_and_nan_is_infinitely_wrong() -> None:
    constraint = Constraint.parse("latency_ms<=2")
    np.testing.assert_allclose(constraint.excess([1, 2, 3, math.nan]), [0, 0, 0.5, math.inf])
    assert Constraint.parse(str(constraint)) == constraint
    assert Constraint.parse("accuracy>=0.9").excess([0.45])[0] == pytest.approx(0.5)


def test_goals_refuse_nothing_to_optimise_and_repeats() -> None:
    with pytest.raises(InvalidInputError, match="at least one objective"):
        Goals.parse([])
    with pytest.raises(InvalidInputError, match="each metric only once"):
        Goals.parse(["a", "a:max"])


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


@given(points)
@settings(max_examples=100, deadline=None)
def test_non_dominated_equals_brute_force(losses: np.ndarray) -> None:
    mask = non_dominated(losses)
    for i, row in enumerate(losses):
        beaten = any(dominates(other, row) for other in losses)
        repeated = any((losses[j] == row).all() for j in range(i))
        assert mask[i] == (not beaten and not repeated)


@given(points, st.data())
@settings(max_examples=60, deadline=None)
def test_ranks_put_the_feasible_first_and_respect_dominance(
    losses: np.ndarray, data: st.DataObject
) -> None:
    n = len(losses)
    violations = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=n, max_size=n))
    )
    rank = ranks(losses, violations)
    for i in range(n):
        for j in range(n):
            if violations[i] == 0 < violations[j]:
                assert rank[i] < rank[j]
            if violations[i] == violations[j] == 0 and dominates(losses[i], losses[j]):
                assert rank[i] < rank[j]


@given(points)
@settings(max_examples=60, deadline=None)
def test_hypervolume_counts_dominated_unit_cells(losses: np.ndarray) -> None:
    m = losses.shape[1]
    corners = np.stack(np.meshgrid(*[np.arange(6)] * m, indexing="ij"), -1).reshape(-1, m)
    covered = (losses[None] <= corners[:, None]).all(axis=2).any(axis=1).sum()
    assert hypervolume(losses, np.full(m, 6.0)) == pytest.approx(covered)


def test_reference_point_is_finite_and_beyond_the_worst() -> None:
    losses = np.array([[1.0, 5.0], [2.0, 5.0], [np.nan, 1.0]])
    reference = reference_point(losses)
    assert (reference > [2.0, 5.0]).all()
    assert np.isfinite(reference).all()


def trial(number: int, fidelity: Fidelity, **metrics: float) -> Trial:
    return Trial(number, Evaluate(Candidate({"a": number}, f"{number:016x}"), fidelity)).completed(
        metrics
    )


def test_front_uses_the_most_trusted_fidelity_and_only_feasible_complete_trials() -> None:
    goals = Goals.parse(["accuracy", "latency_ms"], ["latency_ms<=5"])
    trials = [
        trial(0, Fidelity.TRAINED, accuracy=1.0, latency_ms=0.1),
        trial(1, Fidelity.DEPLOYED, accuracy=0.9, latency_ms=3.0),
        trial(2, Fidelity.DEPLOYED, accuracy=0.95, latency_ms=4.0),
        trial(3, Fidelity.DEPLOYED, accuracy=0.8, latency_ms=3.5),
        trial(4, Fidelity.DEPLOYED, accuracy=0.99, latency_ms=6.0),
        trial(5, Fidelity.DEPLOYED, accuracy=0.99),
        Trial(6, Evaluate(Candidate({"a": 6}, "6"), Fidelity.DEPLOYED)).failed("broken"),
    ]
    front = front_of(trials, goals)
    assert [t.number for t in front.trials] == [2, 1]
    assert front.fidelity is Fidelity.DEPLOYED
    assert front_of(trials, goals, Fidelity.TRAINED).trials == (trials[0],)
    assert front_of([], goals).trials == ()


def test_few_of_a_front_cover_it_and_are_not_its_ends() -> None:
    x = np.linspace(0, 1, 101)
    losses = np.column_stack([x, (1 - np.sqrt(x)) ** 2])
    (first,) = covering(losses, 1)
    assert 10 < first < 60
    five = covering(losses, 5)
    assert five[0] == first
    assert len(set(five.tolist())) == 5
    reference = np.full(2, 1.1)
    drawn = [
        hypervolume(losses[np.random.default_rng(seed).permutation(101)[:5]], reference)
        for seed in range(50)
    ]
    assert hypervolume(losses[five], reference) > np.quantile(drawn, 0.9)
    assert set(covering(losses, 500).tolist()) == set(range(101))


@given(st.integers(0, 2**32 - 1), st.integers(2, 3))
@settings(max_examples=30, deadline=None)
def test_lazy_covering_is_greedy(seed: int, m: int) -> None:
    losses = np.random.default_rng(seed).random((12, m))
    scaled = (losses - losses.min(0)) / (losses.max(0) - losses.min(0))
    taken: list[int] = []
    for _ in range(5):
        gains = [
            -1.0 if i in taken else hypervolume(scaled[[*taken, i]], np.full(m, 1.1))
            for i in range(12)
        ]
        taken.append(int(np.argmax(gains)))
    found = covering(losses, 5)
    volumes = [
        [hypervolume(scaled[order[: k + 1]], np.full(m, 1.1)) for k in range(5)]
        for order in (taken, found.tolist())
    ]
    np.testing.assert_allclose(volumes[0], volumes[1])
