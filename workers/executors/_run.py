"""Running one trial: whatever the evaluator does, a finished trial comes out."""

from __future__ import annotations

import logging
import math
import time

from nas.core import Evaluate, Evaluator, SharedTrainer, TrainShared, Trial

logger = logging.getLogger("nas.worker")


def run_trial(trial: Trial, evaluator: Evaluator) -> Trial:
    """`trial` completed, or failed with the evaluator's error. Interrupts pass through."""
    started = time.perf_counter()

    def report(line: str) -> None:
        logger.info("trial %d: %s", trial.number, line)

    try:
        match trial.task:
            case Evaluate(candidate, fidelity, effort):
                found = evaluator.evaluate(candidate, fidelity, report, effort)
            case TrainShared(method, epochs):
                if not isinstance(evaluator, SharedTrainer):
                    return trial.failed(f"this evaluator trains no shared weights ({method})")
                found = evaluator.train_shared(method, epochs, report)
    except Exception as error:  # a failed trial is data
        logger.exception("trial %d failed", trial.number)
        return trial.failed(describe(error), time.perf_counter() - started)
    seconds = time.perf_counter() - started
    wrong = {name: value for name, value in found.metrics.items() if not math.isfinite(value)}
    if wrong:
        return trial.failed(f"metrics are not finite numbers: {wrong}", seconds)
    return trial.completed(found.metrics, found.provenance, found.artifacts, seconds)


def describe(error: BaseException) -> str:
    """One line: the error's type and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
