from __future__ import annotations

from functools import partial
from typing import Self

import numpy as np
import pytest

from nas.core import Prediction, Predictor
from predictors.calibration import CalibratedPredictor, coverage, deviations
from predictors.gbdt import GradientBoostedTrees


class Overconfident(Predictor):
    """The mean of the training targets, with a hundredth of their spread."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Self:
        self.mean, self.std = y.mean(axis=0), y.std(axis=0) / 100
        return self

    def predict(self, x: np.ndarray) -> Prediction:
        shape = (len(x), len(self.mean))
        return Prediction(np.broadcast_to(self.mean, shape), np.broadcast_to(self.std, shape))


def noise(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n, 2), dtype=np.float32), rng.normal(5.0, [1.0, 30.0], (n, 2))


def smooth(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 4), dtype=np.float32)
    return x, np.stack([x.sum(axis=1), np.sin(6 * x[:, 0]) + rng.normal(0, 0.3, n)], axis=1)


def test_deviations_are_those_of_the_normal_distribution() -> None:
    assert deviations(0.6827) == pytest.approx(1.0, abs=1e-3)
    assert deviations(0.95) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize("level", [0.68, 0.9])
def test_an_overconfident_predictor_is_put_right_per_target(level: float) -> None:
    x, y = noise(300, 0)
    assert (coverage(Overconfident, x, y, level) < 0.1).all()
    calibrated = partial(CalibratedPredictor, Overconfident, level)
    np.testing.assert_allclose(coverage(calibrated, x, y, level), level, atol=0.07)


def test_the_mean_stays_and_a_normal_target_gets_its_spread() -> None:
    x, y = noise(500, 1)
    found = CalibratedPredictor(Overconfident).fit(x, y).predict(x[:1])
    np.testing.assert_array_equal(found.mean, Overconfident().fit(x, y).predict(x[:1]).mean)
    np.testing.assert_allclose(found.std[0], [1.0, 30.0], rtol=0.1)


def test_trees_become_calibrated_on_fresh_rows() -> None:
    (x, y), (new, truth) = smooth(150, 0), smooth(400, 1)
    base = partial(GradientBoostedTrees, n_trees=40)
    found = CalibratedPredictor(base).fit(x, y).predict(new)
    inside = (np.abs(truth - found.mean) <= found.std).mean(axis=0)
    np.testing.assert_allclose(inside, 0.68, atol=0.12)


def test_few_rows_leave_the_uncertainty_as_it_is() -> None:
    x, y = smooth(9, 0)
    plain = GradientBoostedTrees().fit(x, y).predict(x)
    found = CalibratedPredictor(GradientBoostedTrees).fit(x, y).predict(x)
    np.testing.assert_array_equal(found.std, plain.std)
