from __future__ import annotations

from functools import partial
from typing import Self

import numpy as np

from nas.core import Prediction, Predictor
from predictors.gaussian_process import GaussianProcess
from predictors.validation import kendall_tau
from predictors.warping import WarpedTargets


class Given(Predictor):
    """Takes its features for predictions: mean, then a standard deviation of 1."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.taught = y
        return self

    def predict(self, x: np.ndarray) -> Prediction:
        return Prediction(x.astype(np.float64), np.ones(x.shape))


def test_the_base_learns_normal_scores_whatever_the_distribution() -> None:
    base = Given()
    y = np.exp(np.random.default_rng(0).normal(0, 2, (199, 1)))
    WarpedTargets(lambda: base).fit(np.zeros((199, 1), np.float32), y)
    assert abs(base.taught.mean()) < 1e-6
    assert abs(base.taught.std() - 1) < 0.05
    assert kendall_tau(base.taught[:, 0], y[:, 0]) == 1.0


def test_predictions_come_back_in_units_and_in_order() -> None:
    y = np.array([[1.0], [2.0], [2.0], [10.0], [20.0]])
    fitted = WarpedTargets(Given).fit(np.zeros((5, 1), np.float32), y)
    found = fitted.predict(np.linspace(-4, 4, 33, dtype=np.float32)[:, None])
    assert (np.diff(found.mean[:, 0]) > 0).all()
    assert found.mean[0, 0] < 1 and found.mean[-1, 0] > 20  # beyond what was seen, too
    assert (found.std > 0).all()
    assert found.std[-1, 0] > found.std[8, 0]  # the same doubt is more where targets lie far apart
    middle = fitted.predict(np.zeros((1, 1), np.float32))
    assert 2.0 < middle.mean[0, 0] < 10.0


def test_a_long_tail_is_ranked_better() -> None:
    gains = []
    for seed in range(4):
        x = np.random.default_rng(seed).random((340, 4), dtype=np.float32)
        y = (90 - np.exp(6 * x[:, :2].sum(axis=1) / 2 + x[:, 2]))[:, None].astype(np.float64)
        known, rest = slice(0, 40), slice(40, None)
        base = partial(GaussianProcess, seed=seed)
        warped, plain = (
            kendall_tau(p.fit(x[known], y[known]).predict(x[rest]).mean[:, 0], y[rest, 0])
            for p in (WarpedTargets(base), base())
        )
        gains.append(warped - plain)
    assert np.mean(gains) > 0.01
