"""What every predictor promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nas.core import ConflictError, Prediction, Predictor, UnknownNameError
from predictors.automatic import AutomaticPredictor
from predictors.calibration import CalibratedPredictor
from predictors.forest import RandomForest
from predictors.gaussian_process import GaussianProcess
from predictors.gbdt import GradientBoostedTrees, RankingTrees
from predictors.graph import GraphEnsemble
from predictors.lightgbm import LightGBMTrees
from predictors.neural import NeuralEnsemble
from predictors.registry import PREDICTORS, predictor
from predictors.stacking import StackedProcesses
from predictors.transfer import Transferred
from predictors.validation import kendall_tau
from predictors.warm_start import WarmStarted
from predictors.warping import WarpedTargets
from searchspaces.tabular.nasbench201 import LINKS


class GraphOfCells(Predictor):
    """A graph network on `cells`, whose operators become vertices, with their columns beside."""

    def __init__(self, seed: int) -> None:
        self._net = GraphEnsemble(8, 7, n_members=2, width=24, seed=seed)

    def fit(self, x: np.ndarray, y: np.ndarray) -> GraphOfCells:
        self._net.fit(self._graphs(x), y)
        return self

    def predict(self, x: np.ndarray) -> Prediction:
        return self._net.predict(self._graphs(x))

    def _graphs(self, x: np.ndarray) -> np.ndarray:
        labels = np.zeros((len(x), 8, 7))
        labels[:, 0, 0] = labels[:, -1, 1] = 1
        labels[:, 1:-1, 2:] = x.reshape(-1, 6, 5)
        edges = np.broadcast_to(LINKS.reshape(1, 64), (len(x), 64))
        return np.concatenate([edges, labels.reshape(-1, 56), x], axis=1).astype(np.float32)


WEIGHTS = np.random.default_rng(7).normal(size=30)
MAKERS: dict[str, Callable[[int], Predictor]] = {
    "gbdt": lambda seed: GradientBoostedTrees(seed=seed),
    "gbdt-ranking": lambda seed: RankingTrees(seed=seed),
    "lightgbm": lambda seed: LightGBMTrees(seed=seed),
    "forest": lambda seed: RandomForest(n_trees=30, seed=seed),
    "gaussian-process": lambda seed: GaussianProcess(max_tuning_rows=40, seed=seed),
    "stacked": lambda seed: StackedProcesses((slice(0, 15), slice(15, None)), seed=seed),
    "warped": lambda seed: WarpedTargets(partial(GaussianProcess, seed=seed)),
    "neural": lambda seed: NeuralEnsemble(n_members=2, n_steps=100, seed=seed),
    "graph": GraphOfCells,
    "transferred": lambda seed: Transferred(partial(GradientBoostedTrees, seed=seed)),
    "warm start": lambda seed: WarmStarted(partial(GradientBoostedTrees, seed=seed), seed),
    "calibrated": lambda seed: CalibratedPredictor(partial(GaussianProcess, seed=seed), seed=seed),
    "automatic": lambda seed: AutomaticPredictor(
        {"gbdt": GradientBoostedTrees, "gaussian-process": GaussianProcess}, n_folds=3, seed=seed
    ),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


def cells(n: int, seed: int) -> np.ndarray:
    """`(n, 30)` one-hots of five operators on six edges."""
    drawn = np.random.default_rng(seed).integers(5, size=(n, 6))
    return np.eye(5, dtype=np.float32)[drawn].reshape(n, 30)


def truth(x: np.ndarray) -> np.ndarray:
    """Two targets of very different scale."""
    plain = x @ WEIGHTS + 0.5 * x[:, 0] * x[:, 7]
    return np.stack([plain, 1000.0 - 200.0 * x[:, 25:].argmax(axis=1) + 30 * plain], axis=1)


@EVERY
def test_it_learns_several_targets_of_any_scale(name: str) -> None:
    x, new = cells(150, 0), cells(200, 1)
    found = MAKERS[name](0).fit(x, truth(x)).predict(new)
    assert found.mean.shape == found.std.shape == (200, 2)
    assert found.mean.dtype.kind == found.std.dtype.kind == "f"
    assert (found.std >= 0).all() and np.isfinite(found.std).all()
    error = ((found.mean - truth(new)) ** 2).mean(axis=0)
    assert (error < 0.6 * truth(new).var(axis=0)).all()
    taus = [kendall_tau(found.mean[:, j], truth(new)[:, j]) for j in range(2)]
    assert min(taus) > 0.45, taus


@EVERY
def test_the_same_seed_gives_the_same_and_fits_forget(name: str) -> None:
    x, other, new = cells(40, 0), cells(25, 2), cells(20, 1)
    once = MAKERS[name](3).fit(x, truth(x)).predict(new)
    again = MAKERS[name](3).fit(other, -truth(other)).fit(x, truth(x)).predict(new)
    np.testing.assert_array_equal(once.mean, again.mean)
    np.testing.assert_array_equal(once.std, again.std)


@EVERY
def test_predicting_leaves_arguments_alone_and_rows_independent(name: str) -> None:
    x, new = cells(30, 0), cells(9, 1)
    kept, y = x.copy(), truth(x)
    fitted = MAKERS[name](0).fit(x, y)
    whole = fitted.predict(new)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(y, truth(x))
    part = fitted.predict(new[4:6])
    np.testing.assert_allclose(part.mean, whole.mean[4:6], rtol=1e-4)
    np.testing.assert_allclose(part.std, whole.std[4:6], rtol=1e-2, atol=1e-3)


@EVERY
@pytest.mark.parametrize("n", [0, 1, 3])
def test_few_rows_give_their_mean(name: str, n: int) -> None:
    x, new = cells(n, 0), cells(5, 1)
    found = MAKERS[name](0).fit(x, truth(x)).predict(new)
    expected = truth(x).mean(axis=0) if n else np.zeros(2)
    np.testing.assert_allclose(found.mean, np.broadcast_to(expected, (5, 2)))
    assert np.isfinite(found.std).all()


@EVERY
@pytest.mark.parametrize("n", [4, 30])
def test_a_constant_target_is_predicted_as_it_is(name: str, n: int) -> None:
    x = cells(n, 0)
    y = np.stack([np.full(n, 0.1), truth(x)[:, 0]], axis=1)
    found = MAKERS[name](0).fit(x, y).predict(cells(5, 1))
    np.testing.assert_allclose(found.mean[:, 0], 0.1, atol=0.05)
    assert np.isfinite(found.mean).all() and np.isfinite(found.std).all()


@EVERY
def test_rows_that_are_all_alike_are_no_trouble(name: str) -> None:
    x = np.repeat(cells(1, 0), 8, axis=0)
    y = np.arange(16.0).reshape(8, 2)
    found = MAKERS[name](0).fit(x, y).predict(x[:2])
    assert np.isfinite(found.mean).all() and np.isfinite(found.std).all()
    assert (found.mean >= y.min(axis=0)).all() and (found.mean <= y.max(axis=0)).all()


@EVERY
def test_predicting_before_fitting_is_refused(name: str) -> None:
    with pytest.raises(ConflictError, match="fit first"):
        MAKERS[name](0).predict(cells(1, 0))


@pytest.mark.parametrize("name", ["gaussian-process", "warped", "calibrated", "neural"])
def test_uncertainty_is_larger_where_there_are_no_data(name: str) -> None:
    x, away = cells(400, 0), cells(400, 1)
    known = x[:, [3, 4, 8, 9, 13, 14]].sum(axis=1) == 0  # two operators never seen on three edges
    strange = away[:, [3, 4, 8, 9, 13, 14]].sum(axis=1) == 3
    near = away[away[:, [3, 4, 8, 9, 13, 14]].sum(axis=1) == 0]
    fitted = MAKERS[name](0).fit(x[known], truth(x[known]))
    assert (
        fitted.predict(away[strange]).std.mean(axis=0) > fitted.predict(near).std.mean(axis=0)
    ).all()


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_registered_predictor_can_be_made_by_name(name: str) -> None:
    x = cells(6, 0)
    assert predictor(name, 1).fit(x, truth(x)).predict(x).mean.shape == (6, 2)


def test_an_unknown_name_is_refused_with_those_known() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gbdt'"):
        predictor("gbtd", 0)
