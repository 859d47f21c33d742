"""What a job will cost, from a few timed steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nas.core import Candidate, Genotypes, Goals
from searchspaces import ModelFamily
from workers.datasets import Dataset
from workers.deployment import export_onnx
from workers.differentiable.settings import DifferentiableSettings
from workers.differentiable.shared import new_trainer
from workers.evaluation import EvaluationSettings
from workers.inherited import N_CALIBRATION
from workers.profiling import OnnxRuntimeProfiler
from workers.quantizing import calibrate
from workers.scoring import scores
from workers.supernet import SupernetTrainer
from workers.supernet_settings import SupernetSettings
from workers.training import TrainingSettings, logits_of, train

N_IMAGES = 256
N_FLOOR_RUNS = 100


@dataclass(frozen=True)
class TrialSeconds:
    """Worker seconds of one search trial, of one finalist, and of exporting and timing alone."""

    search: float
    finalist: float
    measuring: float


def estimate_trial_seconds(
    family: ModelFamily,
    data: Dataset,
    candidates: Sequence[Candidate],
    settings: EvaluationSettings,
) -> TrialSeconds:
    """Median over `candidates` of the time a trial would take, from a timed part of an epoch."""
    torch.set_num_threads(1)
    n_images = min(N_IMAGES, len(data.x_train))
    searches, finalists, measuring = [], [], []
    for candidate in candidates:
        network = family.build(candidate)
        x, y = data.x_train[:n_images], data.y_train[:n_images]
        train(network, x, y, TrainingSettings(1), 0)  # the first pass warms up
        started = time.perf_counter()
        train(network, x, y, TrainingSettings(1), 0)
        epoch = (time.perf_counter() - started) * len(data.x_train) / n_images
        started = time.perf_counter()
        _measure(family, candidate)
        fixed = time.perf_counter() - started
        shared = settings.qat_epochs * 1.3
        searches.append(fixed + epoch * (settings.epochs + settings.finetune_epochs + shared))
        measuring.append(fixed)
        finalists.append(2 * fixed + epoch * (settings.deployed_epochs + shared))
    return TrialSeconds(median(searches), median(finalists), median(measuring))


@dataclass(frozen=True)
class SupernetSeconds:
    """Worker seconds of a supernet's whole training and of one score by it."""

    training: float
    score: float


def estimate_supernet_seconds(
    family: ModelFamily, data: Dataset, candidates: Sequence[Candidate], settings: SupernetSettings
) -> SupernetSeconds:
    """Times a part of an epoch with bits in the loop, and the scoring of `candidates`."""
    torch.set_num_threads(1)
    size = min(len(data.x_train), settings.batch_size)
    few = replace(data, x_train=data.x_train[:size], y_train=data.y_train[:size])
    trainer = SupernetTrainer(family, few, replace(settings, epochs=4, float_share=0.0), 0)
    trainer.train(1, report=_silent)  # the first step warms up
    started = time.perf_counter()
    trainer.train(4, report=_silent)
    step = (time.perf_counter() - started) / 3
    n_steps = settings.epochs * max(1, len(data.x_train) // size)
    x = torch.from_numpy(data.x_train[:N_CALIBRATION])
    times = []
    for candidate in candidates:
        started = time.perf_counter()
        trainer.supernet.activate(candidate)
        trainer.supernet.calibrate(x)
        scores(logits_of(trainer.supernet, data.x_val).numpy(), data.y_val)
        times.append(time.perf_counter() - started)
    return SupernetSeconds(step * n_steps, median(times))


def estimate_differentiable_seconds(
    family: ModelFamily, data: Dataset, goals: Goals, settings: DifferentiableSettings
) -> float:
    """Worker seconds of learning a distribution, from an epoch of one batch of each kind.

    With `adapt`, as if it went back as often as it may.
    """
    torch.set_num_threads(1)
    size = min(len(data.x_train) // 2, settings.batch_size)
    few = replace(
        data,
        x_train=data.x_train[: 2 * size],
        y_train=data.y_train[: 2 * size],
        x_val=data.x_val[:size],  # examined once an epoch, not once a step
        y_val=data.y_val[:size],
    )
    short = replace(settings, epochs=3, warm_up=0.0, batch_size=size)
    trainer = new_trainer(family, few, goals, short, 0)
    trainer.train(1, report=_silent)  # the first step warms up
    started = time.perf_counter()
    trainer.train(3, report=_silent)
    epoch = (time.perf_counter() - started) / 2
    return epoch * settings.max_epochs * max(1, len(data.x_train) // (2 * size))


def _silent(line: str) -> None:
    """Report nothing."""


def latency_floor_ms(family: ModelFamily, rows: Sequence[Genotypes]) -> float:
    """Fastest median latency among `rows`, built with random weights, exported and timed here."""
    return min(_measure(family, family.space.candidate(row)) for row in rows)


def _measure(family: ModelFamily, candidate: Candidate) -> float:
    """Milliseconds of an untrained candidate's exported file."""
    torch.set_num_threads(1)
    network = family.build(candidate).eval()
    family.prune(network, candidate)
    family.quantize(network, candidate)
    images = np.random.default_rng(0).normal(size=(8, *family.input_shape)).astype(np.float32)
    calibrate(network, images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "floor.onnx"
        export_onnx(network, family.input_shape, path)
        return OnnxRuntimeProfiler(n_runs=N_FLOOR_RUNS).profile(path).calm_ms
