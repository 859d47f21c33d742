"""Exported models as ExecuTorch programs, which phones run (extra `executorch`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nas.core import InvalidInputError, Job
from nas.front import CARD
from nas.spec import JobSpec
from workers.datasets import Dataset, load_dataset
from workers.deployment import onnx_logits
from workers.evaluation import MODEL
from workers.executorch.lowering import convert
from workers.profiling.runtime import session
from workers.runtimes import profiler
from workers.writing import written_whole

RUNTIME = "executorch"
PROGRAM = "model.pte"
N_RUNS = 300


def require_executorch() -> None:
    """Refuse to begin where it is missing.

    Raises:
        EvaluationError: it is not installed; names the extra.
    """
    profiler(RUNTIME)


def dataset_of(job: Job, uploads: Path | None) -> Dataset:
    """The images of a job, split as it split them.

    Args:
        job: the job.
        uploads: folder of data sets that clients sent; None where they are not here.

    Raises:
        InvalidInputError: they are not here.
    """
    spec = JobSpec.parse(job.spec)
    return load_dataset(spec.data, limit=spec.data_limit, uploads=uploads)


def add_program(folder: Path, dataset: Dataset, n_runs: int = N_RUNS) -> Mapping[str, Any]:
    """Write `model.pte` beside the `model.onnx` of an exported model.

    It has the same integer weights and scales, and takes one image at a time. The card is told,
    under `executorch`, what the program scores on the test images, how far it is from the ONNX file
    there, what it takes on this machine's CPU, and in which precision.

    Args:
        folder: of an exported model.
        dataset: with the test images.
        n_runs: timed runs at most; at least 30.

    Returns:
        What the card is told.

    Raises:
        InvalidInputError: not the folder of an exported model, or images of another shape.
        EvaluationError: ExecuTorch is not installed, or cannot convert or run it.
    """
    require_executorch()
    for name in (MODEL, CARD):
        if not (folder / name).is_file():
            raise InvalidInputError("folder", str(folder), f"an exported model, with a {name}")
    _check_shape(folder / MODEL, dataset)
    with written_whole(folder / PROGRAM) as temporary:
        convert(folder / MODEL, temporary)
    about = _measured(folder, dataset, n_runs)
    card = json.loads((folder / CARD).read_text())
    with written_whole(folder / CARD) as temporary:
        told = json.dumps({**card, RUNTIME: about}, indent=2, sort_keys=True)
        temporary.write_text(told + "\n")
    return about


def _measured(folder: Path, dataset: Dataset, n_runs: int) -> dict[str, Any]:
    profile = profiler(RUNTIME, n_runs=n_runs, measures_memory=True).profile(folder / PROGRAM)
    return {
        "file": PROGRAM,
        "metrics": {
            **profile.metrics,
            **_scores(folder, dataset),
            "file_bytes": float((folder / PROGRAM).stat().st_size),
        },
        "provenance": {
            "test_accuracy": {"kind": "measured", "on": f"{PROGRAM}, test split"},
            "onnx_test_accuracy": {"kind": "measured", "on": f"{MODEL}, the same images"},
            "latency_ms": profile.source(f"{PROGRAM}, batch 1"),
        },
    }


def _check_shape(model: Path, dataset: Dataset) -> None:
    shape = tuple(session(model).get_inputs()[0].shape[1:])
    if shape != dataset.input_shape:
        raise InvalidInputError("dataset", dataset.input_shape, f"images {shape}, as {model} takes")


def _scores(folder: Path, dataset: Dataset) -> dict[str, float]:
    """Both files on the test images, and how far they are from each other."""
    from workers.executorch.program import program_logits

    x, y = dataset.x_test, dataset.y_test
    onnx, program = onnx_logits(folder / MODEL, x), program_logits(folder / PROGRAM, x)
    return {
        "test_accuracy": float((program.argmax(1) == y).mean()),
        "onnx_test_accuracy": float((onnx.argmax(1) == y).mean()),
        "equal_top1": float((program.argmax(1) == onnx.argmax(1)).mean()),
        "largest_difference": float(np.abs(program - onnx).max()),
    }
