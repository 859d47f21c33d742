from __future__ import annotations

import numpy as np

from nas.core import Condition, Decision, SearchSpace
from predictors.encoders import one_hot
from predictors.narrowing import harmful_options, remaining_options, without_harm

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
    return rows, 50.0 - 10.0 * (rows[:, 1] == 2) - 5.0 * (rows[:, 3] == 0) + noise


def named(found: tuple) -> list[tuple]:
    return [(h.decision, h.option) for h in found]


def test_one_hot_has_a_column_per_option() -> None:
    rows = SPACE.sample(20, np.random.default_rng(0))
    features = one_hot(SPACE, rows)
    assert features.shape == (20, 12)
    np.testing.assert_array_equal(features.sum(axis=1), (rows >= 0).sum(axis=1))


def test_harmful_options_are_found_worst_first_in_units_of_the_target() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, y)
    assert named(found) == [("op", "skip"), ("bits", 4)]
    assert -8.0 < found[0].effect < -4.0
    assert -3.5 < found[1].effect < -1.5
    assert found[0].support == int((rows[:, 1] == 2).sum())


def test_a_metric_to_be_small_is_harmed_by_the_others() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, y, maximise=False)
    assert set(named(found)) == {("op", "conv"), ("op", "pool"), ("bits", 8)}
    assert all(h.effect > 0 for h in found)


def test_options_of_incumbents_stay() -> None:
    rows, y = measured()
    skipping = rows[rows[:, 1] == 2][:1]
    assert ("op", "skip") not in named(harmful_options(SPACE, rows, y, incumbents=skipping))


def test_no_decision_loses_its_last_option() -> None:
    space = SearchSpace((Decision("a", (0, 1)), Decision("b", tuple(range(6)), ordered=False)))
    rows = space.sample(400, np.random.default_rng(0))
    y = np.where(rows[:, 1] == 0, 0.0, -rows[:, 1].astype(float)) * rows[:, 0]
    found = harmful_options(space, rows, y, min_effect=-100.0)
    left = remaining_options(space, found)
    assert left["b"] and left["a"] == [0]


def test_rare_options_and_few_options_at_a_time() -> None:
    rows, y = measured()
    n_skipping = int((rows[:, 1] == 2).sum())
    assert named(harmful_options(SPACE, rows, y, min_support=n_skipping + 1)) == [("bits", 4)]
    assert named(harmful_options(SPACE, rows, y, max_options=1)) == [("op", "skip")]


def test_what_does_not_vary_or_was_hardly_measured_is_left_alone() -> None:
    rows, y = measured()
    assert harmful_options(SPACE, rows, np.ones(len(rows))) == ()
    assert harmful_options(SPACE, rows[:5], y[:5]) == ()


def test_the_space_can_be_narrowed_and_rows_masked_by_what_was_found() -> None:
    rows, y = measured()
    found = harmful_options(SPACE, rows, y)
    assert remaining_options(SPACE, found) == {"op": ["conv", "pool"], "bits": [8]}
    narrow = SPACE.narrowed(remaining_options(SPACE, found))
    assert narrow.size == 4 * (3 + 1)
    mask = without_harm(SPACE, rows, found)
    np.testing.assert_array_equal(mask, (rows[:, 1] != 2) & (rows[:, 3] == 1))
    sampled = SPACE.widened(narrow.sample(50, np.random.default_rng(0)), narrow)
    assert without_harm(SPACE, sampled, found).all()
