from __future__ import annotations

import numpy as np
import pytest

from predictors.gbdt import GradientBoostedTrees, RankingTrees
from predictors.validation import kendall_tau


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and a target with a long lower tail."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 10)).astype(np.float32)
    inner = x[:, :4].sum(axis=1) + 0.5 * x[:, 4] + rng.normal(0, 0.1, n)
    return x, (90.0 - 80.0 * np.exp(-2.0 * inner))[:, None]


def test_predictions_are_in_the_units_of_the_target() -> None:
    (x, y), (new, expected) = data(200, 0), data(200, 1)
    found = RankingTrees().fit(x, y).predict(new)
    assert abs(found.mean.mean() - expected.mean()) < 0.3 * expected.std()
    shifted = RankingTrees().fit(x, 1000 * y + 7).predict(new)
    np.testing.assert_allclose(shifted.mean, 1000 * found.mean + 7, rtol=1e-4)
    np.testing.assert_allclose(shifted.std, 1000 * found.std, rtol=1e-2, atol=1.0)


def test_only_the_order_of_the_targets_is_learned() -> None:
    (x, y), (new, _) = data(80, 0), data(100, 1)
    plain = RankingTrees().fit(x, y).predict(new).mean[:, 0]
    bent = RankingTrees().fit(x, np.exp(y / 20)).predict(new).mean[:, 0]
    assert kendall_tau(plain, bent) > 0.95


def test_the_largest_is_predicted_largest() -> None:
    x = np.arange(40, dtype=np.float32)[:, None]
    y = np.arange(40, dtype=np.float64)[:, None] ** 2
    found = RankingTrees().fit(x, y).predict(x)
    assert kendall_tau(found.mean[:, 0], y[:, 0]) > 0.9


@pytest.mark.parametrize("n", [30, 60])
def test_ranking_orders_long_tails_better_than_regression(n: int) -> None:
    gains = []
    for seed in range(5):
        (x, y), (new, expected) = data(n, seed), data(300, 100 + seed)
        taus = [
            kendall_tau(p.fit(x, y).predict(new).mean[:, 0], expected[:, 0])
            for p in (RankingTrees(seed=seed), GradientBoostedTrees(seed=seed))
        ]
        gains.append(taus[0] - taus[1])
    assert np.mean(gains) > 0.02
