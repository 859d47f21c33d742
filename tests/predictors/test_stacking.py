from __future__ import annotations

import numpy as np
import pytest

from predictors.gaussian_process import GaussianProcess
from predictors.stacking import StackedProcesses

VIEWS = (slice(0, 2), slice(2, None))


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the first view, of the second, and of both."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 5), dtype=np.float32)
    first, second = np.sin(4 * x[:, 0]) + x[:, 1], 100 * (x[:, 2] + x[:, 3] * x[:, 4])
    return x, np.stack([first, second, first + second / 100], axis=1).astype(float)


def test_each_target_follows_the_view_that_foretells_it() -> None:
    (x, y), (new, truth) = data(60, 0), data(200, 1)
    stacked = StackedProcesses(VIEWS).fit(x, y)
    assert stacked.weights[0, 0] > 0.9 and stacked.weights[1, 1] > 0.9
    assert (stacked.weights >= 0).all()
    np.testing.assert_allclose(stacked.weights.sum(axis=0), 1.0)
    error = np.abs(stacked.predict(new).mean - truth).mean(axis=0)
    assert (error[:2] < 0.1 * truth.std(axis=0)[:2]).all()
    alone = [GaussianProcess().fit(x[:, v], y).predict(new[:, v]).mean for v in VIEWS]
    assert error[2] < min(np.abs(mean - truth).mean(axis=0)[2] for mean in alone)


def test_views_that_disagree_are_uncertain() -> None:
    (x, y), (new, _) = data(60, 0), data(200, 1)
    stacked = StackedProcesses(VIEWS).fit(x, y[:, 2:])
    means = [GaussianProcess().fit(x[:, v], y[:, 2:]).predict(new[:, v]).mean for v in VIEWS]
    apart = np.abs(means[0] - means[1])
    least = np.sqrt(stacked.weights.prod()) * apart
    assert (stacked.predict(new).std >= least - 1e-9).all() and least.max() > 0


def test_too_few_rows_count_evenly() -> None:
    x, y = data(3, 0)
    stacked = StackedProcesses(VIEWS).fit(x, y)
    np.testing.assert_allclose(stacked.weights, 0.5)
    np.testing.assert_allclose(stacked.predict(x).mean[0], y.mean(axis=0))


@pytest.mark.parametrize("i", [0, 7, 29])
def test_errors_left_out_are_those_of_leaving_out(i: int) -> None:
    x, y = data(30, 0)
    fitted = GaussianProcess().fit(x, y + np.random.default_rng(1).normal(0, 0.1, y.shape))
    others = np.arange(30) != i
    for j, process in enumerate(fitted._processes):
        rest = type(process).conditioned(
            process.kernel, process.points[others], process.targets[others]
        )
        apart = np.linalg.norm(process.points[[i]] - process.points[others], axis=1)[None]
        expected = process.targets[i] - rest.moments(apart)[0][0]
        np.testing.assert_allclose(fitted.left_out_errors()[i, j], expected, rtol=1e-6, atol=1e-9)
