"""Latency from few measurements: exact where it can be, honest where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from nas.core import ConflictError
from predictors.latency import FewShotLatency, estimate, most_informative


def devices(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`(n, 3 + 2)` latencies on three known devices and two features; `(n, 1)` on a new one."""
    rng = np.random.default_rng(seed)
    work, moved = rng.random(n) + 0.2, rng.random(n) + 0.2
    known = np.stack([work, moved, 0.5 * work + 0.5 * moved], axis=1)
    features = np.stack([np.log(work), rng.random(n)], axis=1)
    new = 3.0 * work + 1.0 * moved + 2.0
    return np.hstack([known, features]).astype(np.float32), new[:, None]


def test_ten_measurements_are_enough_where_the_new_device_mixes_known_ones() -> None:
    x, y = devices(300, 0)
    rows = most_informative(x, 10, n_known=3)
    found = FewShotLatency(n_known=3).fit(x[rows], y[rows]).predict(x)
    assert spearmanr(found.mean[:, 0], y[:, 0]).statistic > 0.99
    alone = FewShotLatency(n_known=0).fit(x[rows, 3:], y[rows]).predict(x[:, 3:])
    assert np.abs(found.mean - y).mean() < np.abs(alone.mean - y).mean() / 3


@given(st.integers(0, 20), st.floats(0.01, 1000.0))
@settings(max_examples=8, deadline=None)
def test_predictions_scale_with_units(seed: int, unit: float) -> None:
    x, y = devices(24, seed)
    one = FewShotLatency(n_known=3).fit(x[:12], y[:12]).predict(x)
    other = FewShotLatency(n_known=3).fit(x[:12], y[:12] * unit).predict(x)
    np.testing.assert_allclose(other.mean, one.mean * unit, rtol=1e-5)
    np.testing.assert_allclose(other.std, one.std * unit, rtol=1e-5)


def test_the_deviation_covers_what_was_left_out() -> None:
    rng = np.random.default_rng(1)
    x, y = devices(400, 3)
    y = y * (1 + 0.05 * rng.normal(size=y.shape))
    found = FewShotLatency(n_known=3).fit(x[:40], y[:40]).predict(x[40:])
    inside = np.abs(found.mean - y[40:]) <= 2 * found.std
    assert 0.85 < inside.mean() <= 1.0


def test_what_is_measured_next_is_far_from_what_was() -> None:
    x = np.linspace(0, 1, 50, dtype=np.float32)[:, None]
    chosen = most_informative(x, 3, measured=range(10))
    assert chosen[0] == 49 and len(set(chosen)) == 3 and min(chosen) >= 10
    assert list(most_informative(x, 99, measured=range(48))) == [49, 48]
    with pytest.raises(ConflictError):
        FewShotLatency().predict(x)


def test_rows_to_measure_first_reach_from_end_to_end_and_leave_less_doubt() -> None:
    x, y = devices(200, 4)
    chosen = most_informative(x, 10, n_known=3)
    assert len(set(chosen)) == 10
    assert list(most_informative(x, 5, n_known=3)) == list(chosen[:5])
    total = x[:, :3].sum(axis=1)
    ranks = total.argsort().argsort()[chosen] / len(x)
    assert ranks.min() < 0.15 and ranks.max() > 0.85

    def worst(rows: np.ndarray) -> float:
        found = FewShotLatency(n_known=3).fit(x[rows], y[rows]).predict(x)
        return float(np.abs(found.mean - y).max())

    at_random = [np.random.default_rng(i).choice(200, 10, replace=False) for i in range(10)]
    assert worst(chosen) < np.median([worst(rows) for rows in at_random])


def test_estimates_come_with_their_error_and_only_from_enough() -> None:
    x, y = devices(40, 5)
    lessons = [
        ({"latency_ratio@cpu": float(row[0]), "macs": 1e6 * float(row[1])}, float(ms[0]))
        for row, ms in zip(x, y, strict=True)
    ]
    asked, truth = lessons.pop()
    assert estimate(lessons[:7], asked) is None
    assert estimate([({"macs": 1.0}, 2.0)] * 20, asked) is None
    found = estimate(lessons, asked)
    assert found is not None and found.n_measured == 39
    assert found.value == pytest.approx(truth, rel=0.15)
    assert 0.0 < found.error < 0.2 and found.std > 0
    constant = estimate([(asked, 3.0)] * 10, asked)
    assert constant is not None and constant.value == pytest.approx(3.0)
