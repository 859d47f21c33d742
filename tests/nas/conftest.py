"""A job whose trials take no time."""

from __future__ import annotations

import pytest

from nas import driver
from nas.core import (
    Candidate,
    Evaluation,
    Evaluator,
    Fidelity,
    Report,
)
from nas.problem import Problem
from nas.spec import JobSpec

SPEC = JobSpec.parse(
    {
        "space": {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}},
        "strategy": {"name": "random"},
        "objectives": ["accuracy", "weight_bytes"],
        "budget": {"trials": 5, "finalists": 1},
    }
)


class Instant(Evaluator):
    """Scores a candidate by its key, at once."""

    def evaluate(
        self, candidate: Candidate, fidelity: Fidelity, report: Report, effort: float = 1.0
    ) -> Evaluation:
        share = int(candidate.key, 16) / 16**16
        return Evaluation({"accuracy": share, "weight_bytes": 1 - share})


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> Problem:
    """A search whose six trials take no time."""
    monkeypatch.setattr(Problem, "evaluator", lambda *_: Instant())
    return Problem.load(SPEC)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that looks, renews and tries again soon."""
    monkeypatch.setattr(driver, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(driver, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(driver, "DELAYS", (0.01, 0.02))
    monkeypatch.setattr(driver, "LONGEST_DELAY", 0.02)
