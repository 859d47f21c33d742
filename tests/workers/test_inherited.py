from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import searchspaces
from nas.core import EvaluationError, Fidelity, InvalidInputError
from workers.datasets import Dataset, load_dataset
from workers.evaluation import CandidateEvaluator, EvaluationSettings
from workers.inherited import METHOD, SupernetEvaluator, epochs_of
from workers.scoring import scores
from workers.supernet_settings import SupernetSettings

SPACE = {"n_stages": 2, "depths": [1, 2], "widths": [[8, 16], [8, 24]]}
FEW = SupernetSettings(epochs=12, batch_size=32, n_random=1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", limit=800)


def quiet(line: str) -> None: ...


def evaluator(digits: Dataset, folder: Path, latency: bool = False) -> SupernetEvaluator:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SPACE)
    settings = EvaluationSettings(qat_epochs=1, deployed_epochs=1, n_runs=30)
    trained = CandidateEvaluator(family, digits, folder / "job", settings)
    return SupernetEvaluator(trained, folder / "supernets", FEW, latency)


@pytest.fixture(scope="module")
def ready(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> SupernetEvaluator:
    made = evaluator(digits, tmp_path_factory.mktemp("inherited"))
    made.train_shared(METHOD, FEW.epochs, quiet)
    return made


def test_training_piece_by_piece_keeps_every_epoch_and_is_not_done_twice(
    digits: Dataset, tmp_path: Path
) -> None:
    first = evaluator(digits, tmp_path)
    assert first.train_shared(METHOD, 2, quiet).provenance["supernet"]["reused_epochs"] == 0
    written = first.checkpoint.stat().st_mtime_ns
    again = evaluator(digits, tmp_path).train_shared(METHOD, 2, quiet)
    assert again.provenance["supernet"]["reused_epochs"] == 2
    assert first.checkpoint.stat().st_mtime_ns == written
    more = first.train_shared(METHOD, 3, quiet)
    assert more.metrics == {"epochs": 3.0}
    for found, n in ((again, 2), (more, 3)):
        history = found.provenance["supernet"]["history"]
        assert [epoch["epoch"] for epoch in history] == list(range(1, n + 1))
        assert all(epoch["student_loss"] > 0 for epoch in history)
    assert epochs_of(first.checkpoint) == 3


def test_scores_are_those_of_the_extracted_network_and_repeat(
    ready: SupernetEvaluator, digits: Dataset
) -> None:
    space = ready.trained.family.space
    for row in space.sample(4, np.random.default_rng(1)):
        candidate = space.candidate(row)
        found = ready.evaluate(candidate, Fidelity.INHERITED, quiet)
        again = ready.evaluate(candidate, Fidelity.INHERITED, quiet)
        assert found.metrics == again.metrics
        plain = ready._calibrated(candidate, quantized=True).extract(candidate)
        with torch.no_grad():
            told = scores(plain(torch.from_numpy(digits.x_val)).numpy(), digits.y_val)
        for metric, value in told.items():
            assert found.metrics[metric] == pytest.approx(value, abs=1e-6)
            assert found.provenance[metric]["kind"] == "simulated"
        assert found.provenance["supernet"]["version"].endswith("-e12")


def test_candidates_score_far_above_chance_without_any_training_of_their_own(
    ready: SupernetEvaluator,
) -> None:
    space = ready.trained.family.space
    rows = space.sample(12, np.random.default_rng(2))
    scores = [
        ready.evaluate(space.candidate(r), Fidelity.INHERITED, quiet).metrics["accuracy"]
        for r in rows
    ]
    assert np.median(scores) > 0.6


def test_a_finalist_starts_from_the_supernet_and_is_measured_on_its_file(
    ready: SupernetEvaluator,
) -> None:
    space = ready.trained.family.space
    candidate = space.candidate(space.sample(1, np.random.default_rng(3))[0])
    inherited = ready.evaluate(candidate, Fidelity.INHERITED, quiet).metrics["accuracy"]
    final = ready.evaluate(candidate, Fidelity.DEPLOYED, quiet)
    assert final.provenance["accuracy"]["kind"] == "measured"
    assert final.metrics["accuracy"] > inherited - 0.05
    assert (ready.trained.artifact_folder / final.artifacts["onnx"]).is_file()


def test_latency_is_measured_on_the_inherited_file_where_it_is_wanted(
    ready: SupernetEvaluator,
) -> None:
    space = ready.trained.family.space
    candidate = space.candidate(space.sample(1, np.random.default_rng(4))[0])
    found = replace(ready, measures_latency=True).evaluate(candidate, Fidelity.INHERITED, quiet)
    assert found.metrics["latency_ms"] > 0
    assert found.provenance["latency_ms"]["kind"] == "measured"


def test_scoring_before_training_and_other_methods_fail_clearly(
    digits: Dataset, tmp_path: Path
) -> None:
    fresh = evaluator(digits, tmp_path)
    space = fresh.trained.family.space
    with pytest.raises(EvaluationError, match="not trained yet"):
        fresh.evaluate(
            space.candidate(space.sample(1, np.random.default_rng(0))[0]),
            Fidelity.INHERITED,
            quiet,
        )
    with pytest.raises(EvaluationError, match="not darts"):
        fresh.train_shared("darts", 1, quiet)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"epochs": 0}, "supernet.epochs"),
        ({"epochs": 2.5}, "supernet.epochs"),
        ({"shrinking": 1}, "supernet.shrinking"),
        ({"distillation": "kll"}, "supernet.distillation"),
        ({"float_share": 1.5}, "supernet.float_share"),
        ({"epoch": 5}, "supernet"),
    ],
)
def test_bad_settings_name_the_setting(options: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        SupernetSettings.parse(options)


def test_several_workers_on_ray_train_one_supernet_and_go_on_where_they_stopped(
    ray_cluster: None, digits: Dataset, tmp_path: Path
) -> None:
    import ray

    made = evaluator(digits, tmp_path)
    pair = replace(made, settings=replace(FEW, n_workers=2))
    train = ray.remote(lambda e, epochs: e.train_shared(METHOD, epochs, quiet))
    ray.get(train.remote(pair, 4))
    assert epochs_of(pair.checkpoint) == 4
    ray.get(train.remote(pair, 12))
    assert epochs_of(pair.checkpoint) == 12
    whole = replace(pair, folder=tmp_path / "whole")
    ray.get(train.remote(whole, 12))
    one, other = (load_file(e.checkpoint) for e in (pair, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    space = made.trained.family.space
    rows = space.sample(6, np.random.default_rng(2))
    scores = [pair.evaluate(space.candidate(r), Fidelity.INHERITED, quiet) for r in rows]
    assert np.median([s.metrics["accuracy"] for s in scores]) > 0.5


def test_more_workers_than_cpus_are_refused(
    ray_cluster: None, digits: Dataset, tmp_path: Path
) -> None:
    many = replace(evaluator(digits, tmp_path), settings=replace(FEW, n_workers=99))
    with pytest.raises(EvaluationError, match="only 2 CPUs"):
        many.train_shared(METHOD, 1, quiet)
