from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from predictors._sparse_process import SparseProcess
from predictors.gaussian_process import MANY, GaussianProcess


def data(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3), dtype=np.float32)
    return x, np.stack([np.sin(4 * x[:, 0]) + x[:, 1], 100 * x[:, 2] ** 2], axis=1).astype(float)


def test_few_rows_of_a_smooth_function_are_enough() -> None:
    (x, y), (new, truth) = data(60, 0), data(200, 1)
    found = GaussianProcess().fit(x, y).predict(new)
    assert (np.abs(found.mean - truth).mean(axis=0) < 0.05 * truth.std(axis=0)).all()


def test_it_is_certain_where_it_was_told_and_uncertain_far_away() -> None:
    x, y = data(60, 0)
    fitted = GaussianProcess().fit(x, y)
    here, far = fitted.predict(x), fitted.predict(x + 20)
    np.testing.assert_allclose(here.mean, y, atol=0.02 * y.std(axis=0).max())
    assert (here.std.max(axis=0) < 0.1 * y.std(axis=0)).all()
    assert (far.std.min(axis=0) > 0.3 * y.std(axis=0)).all()


def test_moments_are_those_of_the_textbook() -> None:
    (x, y), (new, _) = data(40, 0), data(20, 1)
    fitted = GaussianProcess().fit(x, y)
    found = fitted.predict(new)
    low, reach = x.min(axis=0), np.ptp(x, axis=0)
    for j, process in enumerate(fitted._processes):
        kernel = process.kernel
        reference = GaussianProcessRegressor(
            kernel.amplitude * Matern(kernel.length, nu=2.5),
            alpha=kernel.amplitude * kernel.noise,
            optimizer=None,
        ).fit((x - low) / reach, (y[:, j] - y[:, j].mean()) / y[:, j].std())
        mean, std = reference.predict((new - low) / reach, return_std=True)
        np.testing.assert_allclose(found.mean[:, j], mean * y[:, j].std() + y[:, j].mean(), 1e-4)
        np.testing.assert_allclose(found.std[:, j], std * y[:, j].std(), rtol=1e-3)


def test_noise_is_recognised() -> None:
    x, y = data(150, 0)
    noisy = y[:, :1] + np.random.default_rng(2).normal(0, 0.5, (150, 1))
    clean, found = GaussianProcess().fit(x, y[:, :1]), GaussianProcess().fit(x, noisy)
    assert clean._processes[0].kernel.noise < 0.01 < found._processes[0].kernel.noise
    assert np.abs(found.predict(x).mean - y[:, :1]).mean() < 0.25


def test_units_and_constant_columns_do_not_matter() -> None:
    (x, y), (new, _) = data(40, 0), data(10, 1)
    plain = GaussianProcess().fit(x, y).predict(new)

    def other(part: np.ndarray) -> np.ndarray:
        constant = np.full((len(part), 2), 3.5, dtype=np.float32)
        return np.concatenate([part * np.float32([1, 1000, 0.01]), constant], axis=1)

    found = GaussianProcess().fit(other(x), y).predict(other(new))
    np.testing.assert_allclose(found.mean, plain.mean, rtol=1e-3)
    np.testing.assert_allclose(found.std, plain.std, rtol=1e-2)


@pytest.mark.parametrize("seed", [0, 1])
def test_of_many_rows_a_draw_is_learned_from(seed: int) -> None:
    x, y = data(400, 0)
    capped = GaussianProcess(max_rows=50, max_tuning_rows=30, seed=seed).fit(x, y)
    assert all(len(process.points) == 50 for process in capped._processes)
    assert np.corrcoef(capped.predict(x).mean[:, 0], y[:, 0])[0, 1] > 0.95


def test_seen_through_all_its_points_a_process_is_itself() -> None:
    (x, y), (new, _) = data(60, 0), data(50, 1)
    fitted = GaussianProcess().fit(x, y + np.random.default_rng(2).normal(0, 0.1, y.shape))
    assert fitted._columns is not None
    points = fitted._columns.scaled(new)
    mean, std = fitted._exact(points)
    for j, process in enumerate(fitted._processes):
        whole = SparseProcess.conditioned(
            process.points, process.points, process.targets, process.kernel
        )
        apart = np.linalg.norm(points[:, None] - process.points, axis=2).astype(np.float32)
        found = whole.moments(apart)
        np.testing.assert_allclose(found[0], mean[:, j], atol=0.01)
        np.testing.assert_allclose(found[1], std[:, j], atol=0.02)


def test_many_rows_at_once_are_answered_nearly_as_few_are() -> None:
    (x, y), (new, _) = data(300, 0), data(MANY + 2, 1)
    fitted = GaussianProcess().fit(x, y + np.random.default_rng(2).normal(0, 0.2, y.shape))
    together = fitted.predict(new)
    some = fitted.predict(new[:500])
    spread = some.mean.std(axis=0)
    error = np.abs(together.mean[:500] - some.mean)
    assert (error.max(axis=0) > 0).all() and (error.mean(axis=0) < 0.05 * spread).all()
    np.testing.assert_allclose(together.std[:500].mean(axis=0), some.std.mean(axis=0), rtol=0.5)
