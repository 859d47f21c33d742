from __future__ import annotations

import numpy as np

from nas.core import Condition, Decision, SearchSpace
from predictors.encoders import one_hot
from predictors.narrowing import flags, harmful_options, remaining_options

SPACE = SearchSpace(
    (
        Decision("width", (8, 16, 32, 64)),
        Decision("op", ("conv", "pool", "skip"), ordered=False),
        Decision("kernel", (3, 5, 7), Condition("op", ("conv",))),
        Decision("bits", (4, 8)),
    )
)


def measured(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Skipping costs 10, four bits cost 5; widths and kernels do not matter."""
    rows = SPACE.sample(n, np.random.default_rng(seed))
    noise = np.random.default_rng(seed + 1).normal(0, 0.1, n)
    y = 50.0 - 10.0 * (rows[:, 1] == 2) - 5.0 * (rows[:, 3] == 0) + noise
    return rows, y[:, None]


def named(found: tuple) -> list[tuple]:
    return [(h.decision, h.option) for h in found]


def test_one_hot_has_a_column_per_option() -> None:
    rows = SPACE.sample(20, np.random.default_rng(0))
    features = one_hot(SPACE, rows)
    assert features.shape == (20, 12)
    np.testing.assert_array_equal(features.sum(axis=1), (rows >= 0).sum(axis=1))


def test_harmful_options_are_found_worst_first_in_units_of_the_target() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, -y)
    assert named(found) == [("op", "skip"), ("bits", 4)]
    assert 4.0 < found[0].harm < 8.0
    assert 1.5 < found[1].harm < 3.5
    assert found[0].support == int((rows[:, 1] == 2).sum())


def test_a_metric_to_be_small_is_harmed_by_the_others() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, y)
    assert set(named(found)) == {("op", "conv"), ("op", "pool"), ("bits", 8)}
    assert all(h.harm > 0 for h in found)


def test_what_harms_one_objective_and_helps_another_stays() -> None:
    rows, y = measured()
    bytes_saved = np.where(rows[:, [3]] == 0, -1.0, 0.0)
    both = np.concatenate([-y, bytes_saved], axis=1)
    assert ("bits", 4) in named(harmful_options(SPACE, rows, -y))
    assert ("bits", 4) not in named(harmful_options(SPACE, rows, both))


def test_options_of_incumbents_stay() -> None:
    rows, y = measured()
    skipping = rows[rows[:, 1] == 2][:1]
    assert ("op", "skip") not in named(harmful_options(SPACE, rows, -y, incumbents=skipping))


def test_no_decision_loses_its_last_option() -> None:
    space = SearchSpace((Decision("a", (0, 1)), Decision("b", tuple(range(6)), ordered=False)))
    rows = space.sample(400, np.random.default_rng(0))
    y = 100.0 * rows[:, 0] - rows[:, 1]
    found = harmful_options(space, rows, y[:, None])
    left = remaining_options(space, found)
    assert left["b"] and left["a"] == [0]


def test_rare_options_and_few_options_at_a_time() -> None:
    rows, y = measured()
    n_skipping = int((rows[:, 1] == 2).sum())
    assert named(harmful_options(SPACE, rows, -y, min_support=n_skipping + 1)) == [("bits", 4)]
    assert named(harmful_options(SPACE, rows, -y, max_options=1)) == [("op", "skip")]


def test_what_does_not_vary_or_was_hardly_measured_is_left_alone() -> None:
    rows, y = measured()
    assert harmful_options(SPACE, rows, np.ones((len(rows), 1))) == ()
    assert harmful_options(SPACE, rows[:5], -y[:5]) == ()


def test_the_space_can_be_narrowed_by_what_was_found() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, -y)
    assert remaining_options(SPACE, found) == {"op": ["conv", "pool"], "bits": [8]}
    narrow = SPACE.narrowed(remaining_options(SPACE, found))
    assert narrow.size == 4 * (3 + 1)
    marked = flags(SPACE, found)
    assert marked.shape == (4, 4)
    assert [tuple(place) for place in np.argwhere(marked)] == [(1, 2), (3, 0)]
    sampled = SPACE.widened(narrow.sample(50, np.random.default_rng(0)), narrow)
    assert not ((sampled[:, 1] == 2) | (sampled[:, 3] == 0)).any()
