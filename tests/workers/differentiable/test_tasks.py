from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import searchspaces
from nas.core import (
    EvaluationError,
    Goals,
    InvalidInputError,
)
from tests.workers.differentiable.networks import (
    FEW,
    SMALL,
    evaluator,
    quiet,
    trainer,
)
from workers.datasets import Dataset, load_dataset
from workers.differentiable.resources import Limits
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import metrics_of, new_trainer
from workers.differentiable.trainer import DifferentiableTrainer


def test_epochs_tell_gap_entropy_and_collapse(digits: Dataset) -> None:
    trained = trainer(digits, replace(FEW, curvature="monitor"))
    trained.train(2, None, quiet)
    health = trained.health[-1]
    assert health.gap == health.relaxed_accuracy - health.derived_accuracy
    assert health.entropy == pytest.approx(trained.distribution.entropy().item(), abs=1e-6)
    assert trained.health[0].curvature is None
    assert health.curvature is not None
    assert math.isfinite(health.curvature)
    assert metrics_of(health)["discretization_gap"] == health.gap
    assert replace(health, parameter_free_share=0.6).has_collapsed
    assert not replace(health, parameter_free_share=0.5).has_collapsed


# -------------------------------------------------------------------- settings, evaluator

MIXED = {"levels": 2, "gradient": "first"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"epoch": 3}, "differentiable"),
        ({"epochs": 0}, "differentiable.epochs"),
        ({"gradient": "third"}, "differentiable.gradient"),
        ({"gradient": "score-function", "sampling": "softmax"}, "scores single candidates"),
        ({"max_weight": 1}, "differentiable.max_weight"),
        ({"max_weight": True, **MIXED}, "leaves one option at weight 1"),
        ({"drop": 0.1, "gradient": "first", "sampling": "gumbel"}, "dropped already"),
        ({"noise_share": 0.1, "gradient": "first", "sampling": "gumbel"}, "noise already"),
        ({"least_temperature": 0.1, **MIXED}, "with schedule constant"),
        ({"least_temperature": 3.0, "schedule": "exponential", **MIXED}, "at most it"),
        ({"curvature": "stop"}, "held-out"),
        ({"curvature": "adapt"}, "held-out"),
        ({"curvature": "adapt", "levels": 2, "weight_decay": 0.0}, "cannot grow"),
        ({"curvature": "adapt", "levels": 2, "weight_decay": 0.03}, "below max_decay"),
        ({"levels": 3}, "differentiable.levels"),
        ({"levels": 1, "gradient": "amended"}, "do not learn from"),
        ({"levels": 1, "gradient": "second"}, "do not learn from"),
        ({"temperature": 2.0, "least_temperature": 2.0}, "whose draws have none"),
        ({"schedule": "entropy", "least_temperature": 0.1}, "whose draws have none"),
        ({"batch_size": 15}, "divide it among 4"),
        ({"cost_spread": 0.5}, "differentiable.cost_spread"),
        ({"decay_growth": 1.0}, "differentiable.decay_growth"),
        ({"max_decay": -1.0}, "differentiable.max_decay"),
        ({"drop": 0.1, **MIXED}, "dropped already"),
        ({"warm_up": 1.0}, "the logits never learn"),
        ({"least_rate": 1.0}, "at most the learning rate"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        DifferentiableSettings.parse(options)


def test_a_task_trains_to_its_epochs_and_reports_every_one(digits: Dataset, tmp_path: Path) -> None:
    shared = evaluator(digits, tmp_path)
    shared.train_shared("differentiable", 1, quiet)
    found = evaluator(digits, tmp_path).train_shared("differentiable", 2, quiet)
    about = found.provenance["differentiable"]
    assert [h["epoch"] for h in about["history"]] == [1, 2]
    assert list(about["probabilities"]) == list(shared.family.space.names)
    assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in about["probabilities"].values())
    assert found.metrics["epochs"] == 2
    assert found.metrics["expected_weight_bytes"] > 0
    lines: list[str] = []
    again = shared.train_shared("differentiable", 2, lines.append)
    assert again == found
    assert lines == []


def test_another_method_is_the_inner_evaluators_and_refused_where_it_has_none(
    digits: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="not supernet"):
        evaluator(digits, tmp_path).train_shared("supernet", 1, quiet)


def test_the_joint_space_learns_to_classify() -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    goals = Goals.parse(["accuracy"])
    settings = replace(FEW, epochs=6, learning_rate=0.1)
    trained = new_trainer(family, load_dataset("digits"), goals, settings, 0)
    trained.train(6, None, quiet)
    assert trained.health[-1].relaxed_accuracy > 0.5
    assert trained.health[-1].entropy < trained.health[0].entropy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_distribution_is_learned_on_a_gpu_and_its_file_serves_the_cpu(tmp_path: Path) -> None:
    family = searchspaces.family("mobilenet", (1, 8, 8), 10, SMALL)
    settings = DifferentiableSettings(epochs=2, teachers=1, teacher_epochs=1, curvature="monitor")
    arguments = (load_dataset("digits"), settings, 0, Limits(family.space, family.costs))
    path = tmp_path / "state.safetensors"
    on_gpu = DifferentiableTrainer(family.relaxed(), *arguments, device="cuda")
    on_gpu.train(1, path, quiet)
    on_gpu.train(2, path, quiet)
    on_cpu = DifferentiableTrainer(family.relaxed(), *arguments)
    on_cpu.load(path)
    assert on_cpu.health == on_gpu.health
    assert len(on_cpu.health) == 2
