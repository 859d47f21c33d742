"""Trials: tasks and what became of them, and the events a strategy is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self, assert_never

from nas.core.candidate import Candidate
from nas.core.errors import ConflictError, InvalidInputError


class Fidelity(StrEnum):
    """How a candidate is scored, cheapest first."""

    PROXY = "proxy"
    """Closed-form costs and zero-cost scores; nothing is trained."""
    INHERITED = "inherited"
    """Shared supernet weights, batch norm refreshed, quantized."""
    TRAINED = "trained"
    """A short real training, pruned, fake quantization in the loop."""
    DEPLOYED = "deployed"
    """Fine-tuned, exported; accuracy and latency measured on the exported file."""

    @property
    def rank(self) -> int:
        """0 for the cheapest, rising with trust."""
        return list(Fidelity).index(self)


@dataclass(frozen=True)
class Evaluate:
    """Score one candidate at one fidelity.

    Attributes:
        effort: share of the fidelity's full work (epochs), above 0, at most 1; what less than the
            whole gives is a cheap hint, not a score.

    Raises:
        InvalidInputError: an effort out of that range.
    """

    candidate: Candidate
    fidelity: Fidelity
    effort: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.effort <= 1:
            raise InvalidInputError("effort", self.effort, "above 0, at most 1")


@dataclass(frozen=True)
class TrainShared:
    """Train shared weights (a supernet) by `method` until they have had `epochs` epochs in all."""

    method: str
    epochs: int


DIFFERENTIABLE = "differentiable"
"""The method that learns a distribution over candidates; its trials' provenance of this name holds
`probabilities` by decision and the `history` of epochs."""

Task = Evaluate | TrainShared


def task_to_json(task: Task) -> dict[str, Any]:
    """A JSON object that `task_from_json` reads back to an equal task."""
    match task:
        case Evaluate(candidate, fidelity, effort):
            body: dict[str, Any] = {
                "kind": "evaluate",
                "values": dict(candidate.values),
                "key": candidate.key,
                "fidelity": fidelity.value,
            }
            return body if effort == 1.0 else {**body, "effort": effort}
        case TrainShared(method, epochs):
            return {"kind": "train_shared", "method": method, "epochs": epochs}
        case _:
            assert_never(task)


def task_from_json(body: Mapping[str, Any]) -> Task:
    """Read what `task_to_json` wrote.

    Raises:
        InvalidInputError: the object has not this form.
    """
    match body:
        case {"kind": "evaluate", "values": values, "key": str(key), "fidelity": str(fidelity)}:
            effort = float(body.get("effort", 1.0))
            return Evaluate(Candidate(values, key), Fidelity(fidelity), effort)
        case {"kind": "train_shared", "method": str(method), "epochs": int(epochs)}:
            return TrainShared(method, epochs)
        case _:
            raise InvalidInputError("task", body, "an evaluate or train_shared task")


class TrialState(StrEnum):
    """Where a trial stands; the last two are final."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


SOURCES = {
    "ece": "accuracy",
    "file_bytes": "latency_ms",
    **dict.fromkeys(
        ("latency_p10_ms", "latency_p90_ms", "latency_p99_ms", "latency_ratio"), "latency_ms"
    ),
    **dict.fromkeys(("load_ms", "peak_memory_bytes", "energy_mj"), "latency_ms"),
}
"""Whose provenance a metric without its own has; the others are closed-form costs."""

MARKS = {"simulated": "~", "predicted": "≈"}
"""What stands before a value nobody measured, wherever people read it."""


@dataclass(frozen=True)
class Trial:
    """One task of a job and what became of it. Immutable: `completed` and `failed` return copies.

    Attributes:
        number: 0, 1, 2 … in the order the job created them.
        task: what is to be done.
        state: running until completed or failed.
        metrics: finite numbers by metric name, units in the name (`latency_ms`).
        provenance: by metric (or subject) name, how it was measured; plain JSON.
        artifacts: file by role (`onnx`, `weights`), relative to the job's artifact folder.
        error: why it failed, one line for people first.
        seconds: worker time spent on it.
    """

    number: int
    task: Task
    state: TrialState = TrialState.RUNNING
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0

    def completed(
        self,
        metrics: Mapping[str, float],
        provenance: Mapping[str, Any] | None = None,
        artifacts: Mapping[str, str] | None = None,
        seconds: float = 0.0,
    ) -> Self:
        """This trial with its result.

        Raises:
            ConflictError: it is finished already.
        """
        self._require_running()
        return replace(
            self,
            state=TrialState.COMPLETED,
            metrics=dict(metrics),
            provenance=dict(provenance or {}),
            artifacts=dict(artifacts or {}),
            seconds=seconds,
        )

    def failed(self, error: str, seconds: float = 0.0) -> Self:
        """This trial with the reason it failed.

        Raises:
            ConflictError: it is finished already.
        """
        self._require_running()
        return replace(self, state=TrialState.FAILED, error=error, seconds=seconds)

    @property
    def candidate(self) -> Candidate | None:
        """The candidate it evaluates; None for shared training."""
        return self.task.candidate if isinstance(self.task, Evaluate) else None

    @property
    def fidelity(self) -> Fidelity | None:
        """The fidelity it evaluates at; None for shared training."""
        return self.task.fidelity if isinstance(self.task, Evaluate) else None

    @property
    def effort(self) -> float:
        """The share of its full work; 1 for shared training."""
        return self.task.effort if isinstance(self.task, Evaluate) else 1.0

    def source(self, metric: str) -> Mapping[str, Any]:
        """How a metric came about, as its evaluator said: `kind`, `on`; empty where it did not."""
        told = self.provenance.get(metric) or self.provenance.get(SOURCES.get(metric, "costs"))
        return told if isinstance(told, Mapping) else {}

    def kind(self, metric: str) -> str:
        """Whether a metric was measured, computed, simulated or predicted; "" where unknown."""
        return str(self.source(metric).get("kind", ""))

    def scores(self, fidelity: Fidelity | None = None) -> bool:
        """Whether it is a completed evaluation at full effort, at `fidelity` if given."""
        done = self.state is TrialState.COMPLETED and self.effort == 1.0
        return done and self.fidelity is not None and fidelity in (None, self.fidelity)

    def _require_running(self) -> None:
        if self.state is not TrialState.RUNNING:
            raise ConflictError(f"trial {self.number} is already {self.state}")


class EventKind(StrEnum):
    """What happened to a trial."""

    STARTED = "started"
    FINISHED = "finished"


@dataclass(frozen=True)
class Event:
    """One line of a job's append-only log.

    Attributes:
        sequence: 1, 2, 3 … without gaps within the job.
        kind: started or finished.
        trial: as it was at this event: running when started, final when finished.
        at: seconds since the epoch.
    """

    sequence: int
    kind: EventKind
    trial: Trial
    at: float


MOST_NUMBERS = 10_000
"""That one `TrialQuery` may name: databases take so many values of a statement, and few more."""


@dataclass(frozen=True)
class TrialQuery:
    """Which trials of a job to list; all by default, by number.

    Attributes:
        states: in one of these; () for any.
        fidelities: evaluations at one of these; () for any task.
        candidate_key: evaluations of this candidate; None for any task.
        after: number of the last trial of the page before.
        newest_first: by falling number.
        limit: at most so many.
        numbers: of these numbers, at most 10,000; None for any.

    Raises:
        InvalidInputError: a limit below 1, or more numbers than that.
    """

    states: tuple[TrialState, ...] = ()
    fidelities: tuple[Fidelity, ...] = ()
    candidate_key: str | None = None
    after: int | None = None
    newest_first: bool = False
    limit: int | None = None
    numbers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InvalidInputError("limit", self.limit, "at least 1")
        if self.numbers is not None and len(self.numbers) > MOST_NUMBERS:
            raise InvalidInputError("numbers", len(self.numbers), f"at most {MOST_NUMBERS:,}")
