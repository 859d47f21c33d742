"""What a job will cost, from a few timed steps."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nas.core import Candidate, Genotypes
from searchspaces import ModelFamily
from workers.datasets import Dataset
from workers.deployment import export_onnx
from workers.evaluation import EvaluationSettings
from workers.profiling import OnnxRuntimeProfiler
from workers.quantizing import calibrate
from workers.training import TrainingSettings, train

N_IMAGES = 256
N_FLOOR_RUNS = 100


@dataclass(frozen=True)
class TrialSeconds:
    """Worker seconds of one search trial and of one finalist."""

    search: float
    finalist: float


def estimate_trial_seconds(
    family: ModelFamily,
    data: Dataset,
    candidates: Sequence[Candidate],
    settings: EvaluationSettings,
) -> TrialSeconds:
    """Median over `candidates` of the time a trial would take, from a timed part of an epoch."""
    torch.set_num_threads(1)
    n_images = min(N_IMAGES, len(data.x_train))
    searches, finalists = [], []
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
        finalists.append(2 * fixed + epoch * (settings.deployed_epochs + shared))
    return TrialSeconds(median(searches), median(finalists))


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
        return OnnxRuntimeProfiler(n_runs=N_FLOOR_RUNS).profile(path).latency_ms.p50
