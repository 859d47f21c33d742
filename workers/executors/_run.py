"""Running one trial: whatever the evaluator does, a finished trial comes out."""

from __future__ import annotations

import logging
import math
import time

from nas.core import (
    Evaluate,
    Evaluation,
    EvaluationError,
    Evaluator,
    OutOfSpaceError,
    Report,
    SharedTrainer,
    TrainShared,
    Trial,
)

logger = logging.getLogger("nas.worker")

SPACE_SECONDS = 5.0
"""Between two looks whether a full disk has space again."""
SPACE_HOURS = 1.0


def run_trial(trial: Trial, evaluator: Evaluator) -> Trial:
    """`trial` completed, or failed with the evaluator's error. Interrupts pass through."""
    started = time.perf_counter()

    def report(line: str) -> None:
        logger.info("trial %d: %s", trial.number, line)

    try:
        found = _with_space(trial, evaluator, report)
    except Exception as error:  # a failed trial is data
        logger.exception("trial %d failed", trial.number)
        return trial.failed(describe(error), time.perf_counter() - started)
    seconds = time.perf_counter() - started
    wrong = {name: value for name, value in found.metrics.items() if not math.isfinite(value)}
    if wrong:
        return trial.failed(f"metrics are not finite numbers: {wrong}", seconds)
    return trial.completed(found.metrics, found.provenance, found.artifacts, seconds)


def _with_space(trial: Trial, evaluator: Evaluator, report: Report) -> Evaluation:
    """Do the trial's work; where the disk is full, wait until it is not, an hour at most."""
    until = time.monotonic() + SPACE_HOURS * 3600
    while True:
        try:
            return _work(trial, evaluator, report)
        except OutOfSpaceError as error:
            if time.monotonic() > until:
                raise
            logger.warning("trial %d waits: %s", trial.number, error)
            time.sleep(SPACE_SECONDS)


def _work(trial: Trial, evaluator: Evaluator, report: Report) -> Evaluation:
    match trial.task:
        case Evaluate(candidate, fidelity, effort):
            return evaluator.evaluate(candidate, fidelity, report, effort)
        case TrainShared(method, epochs):
            if not isinstance(evaluator, SharedTrainer):
                raise EvaluationError(f"this evaluator trains no shared weights ({method})")
            return evaluator.train_shared(method, epochs, report)


def describe(error: BaseException) -> str:
    """One line: the error's type and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
