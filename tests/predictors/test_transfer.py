from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nas.core import ConflictError, Predictor
from predictors.gaussian_process import GaussianProcess
from predictors.gbdt import GradientBoostedTrees
from predictors.neural import NeuralEnsemble
from predictors.transfer import Transferred
from predictors.validation import kendall_tau
from predictors.warm_start import WarmStarted


def gaussian_process(seed: int) -> Predictor:
    return GaussianProcess(max_tuning_rows=100, seed=seed)


def trees(seed: int) -> Predictor:
    return GradientBoostedTrees(seed=seed)


Pretrained = Transferred | WarmStarted | NeuralEnsemble
MAKERS: dict[str, Callable[[int], Pretrained]] = {
    "warm start": lambda seed: WarmStarted(partial(trees, seed), seed),
    "residual": lambda seed: Transferred(partial(trees, seed)),
    "stacked": lambda seed: Transferred(partial(trees, seed), "stacked"),
    "residual processes": lambda seed: Transferred(partial(gaussian_process, seed)),
    "neural": lambda seed: NeuralEnsemble(n_members=2, n_steps=150, seed=seed),
}


def source(x: np.ndarray) -> np.ndarray:
    return 3 * x[:, 0] + np.sin(5 * x[:, 1]) + x[:, 2] * x[:, 3] + x[:, 4]


def target(x: np.ndarray) -> np.ndarray:
    return source(x) - 1.5 * x[:, 6]


def points(n: int, seed: int, quantized: bool) -> np.ndarray:
    x = np.random.default_rng(seed).random((n, 8), dtype=np.float32)
    if not quantized:
        x[:, 6:] = 0
    return x


@pytest.mark.parametrize("name", MAKERS)
def test_what_the_source_taught_helps_where_targets_are_few(name: str) -> None:
    many, test = points(400, 0, False), points(300, 1, True)
    gains = []
    for seed in range(3):
        few = points(24, 10 + seed, True)
        taught = MAKERS[name](seed).pretrain(many, source(many)[:, None])
        alone = MAKERS[name](seed)
        taus = [
            kendall_tau(p.fit(few, target(few)[:, None]).predict(test).mean[:, 0], target(test))
            for p in (taught, alone)
        ]
        gains.append(taus[0] - taus[1])
    assert np.median(gains) > 0.05


@pytest.mark.parametrize("name", MAKERS)
def test_fit_forgets_earlier_fits_but_not_the_pretraining(name: str) -> None:
    many, few, other = points(200, 0, False), points(30, 1, True), points(30, 2, True)
    once = MAKERS[name](0).pretrain(many, source(many)[:, None]).fit(few, target(few)[:, None])
    twice = MAKERS[name](0).pretrain(many, source(many)[:, None])
    twice.fit(other, -target(other)[:, None]).fit(few, target(few)[:, None])
    x = points(20, 3, True)
    np.testing.assert_array_equal(once.predict(x).mean, twice.predict(x).mean)
    assert (once.predict(x).std >= 0).all()
    assert once.predict(x).mean.shape == (20, 1)


@pytest.mark.parametrize("name", MAKERS)
def test_predicting_before_fitting_is_refused(name: str) -> None:
    predictor: Predictor = MAKERS[name](0)
    with pytest.raises(ConflictError, match="fit first"):
        predictor.predict(points(3, 0, True))


def test_a_neural_net_learns_statistics_first_then_scores() -> None:
    x = points(300, 0, True)
    statistics = np.stack([source(x) * 2 + 1, target(x) ** 2], axis=1)
    few, test = points(20, 5, True), points(200, 6, True)
    taught = NeuralEnsemble(n_members=2, n_steps=150).pretrain(x, statistics)
    alone = NeuralEnsemble(n_members=2, n_steps=150)
    taus = [
        kendall_tau(p.fit(few, target(few)[:, None]).predict(test).mean[:, 0], target(test))
        for p in (taught, alone)
    ]
    assert taus[0] > taus[1] + 0.05


def test_a_source_in_other_units_serves_as_well() -> None:
    many, few, test = points(400, 0, False), points(24, 1, True), points(300, 2, True)
    found = []
    for scale in (1.0, 250.0):
        taught = Transferred(partial(gaussian_process, 0)).pretrain(
            many, scale * source(many)[:, None]
        )
        found.append(taught.fit(few, target(few)[:, None]).predict(test).mean[:, 0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-3)


def test_a_warm_start_drops_a_source_that_misleads() -> None:
    many, few, test = points(300, 0, True), points(80, 1, True), points(300, 2, True)
    rng = np.random.default_rng(0)
    misled = WarmStarted(partial(gaussian_process, 0)).pretrain(many, rng.normal(size=(300, 1)))
    alone = gaussian_process(0).fit(few, target(few)[:, None])
    misled.fit(few, target(few)[:, None])
    taus = [kendall_tau(p.predict(test).mean[:, 0], target(test)) for p in (misled, alone)]
    assert taus[0] > taus[1] - 0.03


def test_a_warm_start_learns_targets_the_source_lacks_from_scratch() -> None:
    many, few = points(200, 0, False), points(40, 1, True)
    taught = np.stack([source(many), np.full(200, np.nan)], axis=1)
    y = np.stack([target(few), 1 - source(few)], axis=1)
    warm = WarmStarted(partial(trees, 0)).pretrain(many, taught).fit(few, y).predict(few)
    alone = trees(0).fit(few, y).predict(few)
    np.testing.assert_array_equal(warm.mean[:, 1], alone.mean[:, 1])
    assert (warm.mean[:, 0] != alone.mean[:, 0]).any()
