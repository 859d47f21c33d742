"""The specification of a job: JSON in, validated, one clear sentence out when it is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from nas.core import Goals, InvalidInputError
from nas.core.device import LOCAL, device_name

DEVICES = (LOCAL,)
"""Devices that need no agent: this machine's CPU through ONNX Runtime."""

N_PIECES = 10
"""Tasks into which the training of shared weights is cut."""

DEFAULT_OBJECTIVES = ("accuracy:max", "latency_ms:min")

Option = bool | int | float | str | list[Any]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpaceSpec(_Part):
    """Which family of networks, and how its options are narrowed."""

    name: str = "mobilenet"
    options: dict[str, Option] = Field(default_factory=dict)


class StrategySpec(_Part):
    """Which strategy proposes candidates, and its settings."""

    name: str = "predictor-guided"
    options: dict[str, Option] = Field(default_factory=dict)


class BudgetSpec(_Part):
    """What may be spent.

    Attributes:
        trials: candidates trained during the search.
        finalists: candidates fine-tuned, exported and measured at the end.
        worker_seconds: stop searching when the finished trials took this long together.
    """

    trials: Positive = 40
    finalists: Positive = 8
    worker_seconds: Annotated[float, Field(gt=0)] | None = None


class TrainingSpec(_Part):
    """How long candidates are trained, in epochs, and how often finalists are timed.

    Attributes:
        epochs: float training of a search trial.
        finetune_epochs: after pruning.
        qat_epochs: with fake quantization in the loop.
        deployed_epochs: additional float fine-tuning of a finalist.
        latency_runs: timed runs of a finalist's exported file.
    """

    epochs: Positive = 10
    finetune_epochs: Count = 2
    qat_epochs: Count = 2
    deployed_epochs: Count = 6
    latency_runs: Annotated[int, Field(ge=30, le=1_000_000)] = 300


class JobSpec(_Part):
    """One search, complete: the same specification, seed and earlier jobs give the same search.

    Attributes:
        name: for people.
        data: `digits`, `mnist`, the path of an `.npz` of images and labels, or of a folder
            `<class>/<image>`.
        data_limit: use at most this many images; None for all.
        objectives: text forms, for example `accuracy:max`.
        constraints: text forms, for example `weight_bytes<=20000`.
        devices: where latency is measured: `cpu`, and names of devices that have agents or are
            imported tables.
        candidates: by decision, options of candidates to try first: a design you have already.
        supernet: fields of `workers.supernet_settings.SupernetSettings`, `{}` for the defaults:
            candidates are scored by shared weights; None trains each by itself.
        differentiable: fields of `workers.differentiable.settings.DifferentiableSettings`, `{}` for
            the defaults: a distribution over candidates is learned first, and proposes the first
            ones; None for no such thing.
        seed: of everything random.
        warm_start: use what earlier jobs of the same store measured: equal scores as they are,
            others (same family; other data, fidelity or weights) to teach the predictor.
        tables: devices with agents that have no table of this space's layers get one, built beside
            the first trials: should they go away later, latency is predicted from it at once.
    """

    name: str = Field(default="search", min_length=1, max_length=200)
    data: str = "digits"
    data_limit: Annotated[int, Field(ge=50)] | None = None
    space: SpaceSpec = SpaceSpec()
    strategy: StrategySpec = StrategySpec()
    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    constraints: tuple[str, ...] = ()
    devices: tuple[str, ...] = DEVICES
    budget: BudgetSpec = BudgetSpec()
    training: TrainingSpec = TrainingSpec()
    candidates: tuple[dict[str, bool | int | float | str], ...] = ()
    supernet: dict[str, Option] | None = None
    differentiable: dict[str, Option] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    warm_start: bool = True
    tables: bool = False

    @field_validator("space", "strategy", mode="before")
    @classmethod
    def _by_name(cls, part: object) -> object:
        return {"name": part} if isinstance(part, str) else part

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Validate a JSON object; `space` and `strategy` may be given by name alone.

        Raises:
            InvalidInputError: names the first field that is wrong.
        """
        try:
            spec = cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise refusal(first["loc"], first["type"], first["input"], first["msg"]) from None
        for device in spec.remote_devices:
            device_name(device)
        if not spec.devices or len(set(spec.devices)) < len(spec.devices):
            expected = f"{LOCAL}, or names of other devices, each once"
            raise InvalidInputError("devices", list(spec.devices), expected)
        if spec.tables and not spec.remote_devices:
            raise InvalidInputError("tables", True, "false, or devices with agents in devices")
        _ = spec.goals
        return spec

    @property
    def remote_devices(self) -> tuple[str, ...]:
        """Devices other than this machine, with agents or imported; metrics name them after `@`."""
        return tuple(name for name in self.devices if name not in DEVICES)

    @property
    def goals(self) -> Goals:
        """Objectives and constraints, parsed."""
        return Goals.parse(self.objectives, self.constraints)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `parse` reads back to an equal specification."""
        return self.model_dump(mode="json")


def refusal(
    location: Sequence[str | int], kind: str, value: object, message: str
) -> InvalidInputError:
    """One of pydantic's errors as ours."""
    field = ".".join(str(part) for part in location) or "job"
    if kind == "extra_forbidden":
        return InvalidInputError(field, value, "no such setting exists")
    expected = message.removeprefix("Input ").replace("should be", "it must be")
    return InvalidInputError(field, value, expected)
