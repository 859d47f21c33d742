"""What goes over the wire, for OpenAPI and for checking answers."""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nas.core import Token
from nas.spec import JobSpec, SpaceSpec
from nas.table_builds import N_CANDIDATES, N_FILES

Item = TypeVar("Item")
OCTETS = "application/octet-stream"
"""Files as they lie on the disk: never compressed on the way, so that ranges are theirs."""


def answers(media_type: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of an answer that is not JSON, while errors still are."""
    return {200: {"content": {media_type: {}}, "description": media_type}}


class ErrorDetail(BaseModel):
    """What went wrong; `field`, `value` and `expected` where an input was wrong."""

    code: str
    message: str
    field: str | None = None
    value: Any = None
    expected: str | None = None


class ErrorBody(BaseModel):
    """Every error's body."""

    error: ErrorDetail


class Page(BaseModel, Generic[Item]):
    """Some of a list; `next` goes into `after` for what follows, null at the end."""

    items: list[Item]
    next: str | None


class JobBody(BaseModel):
    """One job."""

    job_id: str
    name: str
    state: str
    message: str
    created_at: float = Field(description="seconds since the epoch")
    owner: str
    priority: int
    wanted: str | None = Field(description="paused or cancelled: asked of its driver")
    workers: int | None = Field(description="trials it may run at once now")
    spec: dict[str, Any]


class JobDetail(JobBody):
    """One job, and how many of its trials are in which state."""

    trials: dict[str, int]
    last_sequence: int = Field(description="of its last event")


class TrialBody(BaseModel):
    """One trial."""

    number: int
    state: Literal["running", "completed", "failed"]
    task: dict[str, Any]
    metrics: dict[str, float]
    provenance: dict[str, Any]
    artifacts: dict[str, str]
    error: str | None
    seconds: float


class SourceBody(BaseModel):
    """How a metric came about."""

    kind: str = Field(description="measured, computed, simulated, predicted; empty where unknown")
    on: str


class OneTrialBody(TrialBody):
    """One trial, and how each of its metrics came about."""

    sources: dict[str, SourceBody]


class FrontBody(BaseModel):
    """The Pareto front as it stands, best first by the first objective."""

    job_id: str
    objectives: list[str]
    constraints: list[str]
    trials: list[TrialBody]


class ProgressBody(BaseModel):
    """Columns over finished trials, in finish order; long ones are thinned out."""

    n_finished: list[int]
    at: list[float]
    hypervolume: list[float] = Field(description="as a share of the last")
    best: dict[str, list[float | None]]
    fidelity: str | None


class SubmitBody(JobSpec):
    """A job specification, and how soon it matters."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    priority: int = Field(default=0, ge=-100, le=100)


class ExtendBody(BaseModel):
    """What a job that is not running may get more of, or keep more strictly."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    finalists: int | None = Field(default=None, ge=1, le=1_000_000)
    constraints: list[str] | None = None


class DatasetBody(BaseModel):
    """A data set on the server; `source` goes into a job's `data`."""

    source: str
    digest: str | None
    bytes: int | None


class NamedBody(BaseModel):
    """Something a job may name, with the JSON schema of its options where it has any."""

    name: str
    description: str
    options: dict[str, Any]


class NodeBody(BaseModel):
    """A machine that runs trials."""

    name: str
    n_cpus: int
    n_gpus: int
    memory_bytes: int | None


class ClusterBody(BaseModel):
    """Where trials run."""

    executor: Literal["local", "ray"]
    starts_jobs: bool = Field(description="whether this server does")
    workers: int | None = Field(description="trials at once over all jobs, where that is known")
    dashboard: str | None = Field(description="URL of Ray's")
    nodes: list[NodeBody]


class DriverBody(BaseModel):
    """Who drives a job."""

    page: str | None = Field(description="URL on Ray's dashboard, where the job runs on Ray")


class TokenRequest(BaseModel):
    """Who a new token is for."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200, description="for people")
    owner: str = Field(min_length=1, max_length=200)
    role: Literal["user", "admin", "device"] = "user"
    expires_at: float | None = Field(default=None, description="seconds since the epoch")


class TokenBody(BaseModel):
    """A token, without its secret."""

    token_id: str
    name: str
    owner: str
    role: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    @classmethod
    def of(cls, token: Token) -> Self:
        """What may be shown of `token`."""
        return cls(
            token_id=token.token_id,
            name=token.name,
            owner=token.owner,
            role=token.role.value,
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked_at=token.revoked_at,
        )


class DeviceBody(BaseModel):
    """A device and how it is."""

    name: str
    kind: Literal["local", "agent", "table"] = Field(description="table: imported, has no agent")
    description: str
    owner: str
    is_live: bool
    last_seen: float | None = Field(description="seconds since the epoch")
    registered_at: float | None
    waiting: int = Field(description="pieces of work queued or in work")
    done: int
    facts: dict[str, Any]


class WorkBody(BaseModel):
    """A file to be timed on a device."""

    work_id: str
    device: str
    job_id: str
    digest: str
    settings: dict[str, Any]
    state: str
    created_at: float
    attempts: int
    profile: dict[str, Any] | None
    error: str | None


class TableRequest(BaseModel):
    """Whose layers a device is to time."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    data: str = "digits"
    data_limit: int | None = Field(default=None, ge=50)
    space: SpaceSpec = SpaceSpec()
    candidates: int = Field(default=N_CANDIDATES, ge=3, le=1000, description="looked at for layers")
    files: int = Field(default=N_FILES, ge=3, le=1000, description="of them, timed as a whole")
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("space", mode="before")
    @classmethod
    def _by_name(cls, space: object) -> object:
        return {"name": space} if isinstance(space, str) else space


class LayerTableBody(BaseModel):
    """What layers take on a device, in short."""

    device: str
    runtime: str
    layers: int
    scale: float
    per_layer_ms: float
    files: int = Field(description="whole networks that were timed")
    error: float | None = Field(description="median relative error of sums for left-out files")


class TableBuildBody(BaseModel):
    """The table of a device, and how building it stands; `none` where nobody asked this server."""

    build_id: str
    state: Literal["none", "running", "done", "failed"]
    lines: list[str] = Field(description="what it said so far")
    message: str = Field(description="why it failed")
    table: LayerTableBody | None


class AgentBody(BaseModel):
    """Which agent speaks."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    instance: str = Field(min_length=1, max_length=200)


class RegisterBody(AgentBody):
    """A device, told by its agent."""

    facts: dict[str, Any] = Field(default_factory=dict)


class BeatBody(AgentBody):
    """The work an agent is at."""

    holding: list[str] = Field(default_factory=list, max_length=16)


class ClaimBody(AgentBody):
    """How long an agent waits for work, in seconds."""

    wait: float = Field(default=0.0, ge=0, le=60)


class ReportBody(AgentBody):
    """What became of a piece of work: a profile, or an error."""

    claim: str = Field(max_length=64)
    profile: dict[str, Any] | None = None
    error: str | None = Field(default=None, max_length=2000)


class RowBody(BaseModel):
    """A trial in a table."""

    number: int
    state: Literal["running", "completed", "failed"]
    fidelity: str | None
    effort: float
    key: str | None = Field(description="of the candidate; null for shared training")
    method: str | None = Field(description="of shared training")
    metrics: dict[str, float]
    kinds: dict[str, str] = Field(description="simulated or predicted, by metric; else measured")
    values: dict[str, Any]
    error: str | None
    seconds: float


class TableBody(BaseModel):
    """A page of a table, and how many rows it has in all."""

    total: int
    items: list[RowBody]


class PredictionBody(BaseModel):
    """Out-of-fold predictions beside what the trials found."""

    number: list[int]
    kinds: list[str] = Field(description="how what they found came about: measured, simulated …")
    predicted: list[float]
    measured: list[float]
    tau: float | None = Field(description="Kendall's tau-b")


class AnalysisBody(BaseModel):
    """What the search trials say of predictor and decisions; empty with fewer than 10."""

    n_trials: int
    importance: dict[str, dict[str, float]]
    prediction: dict[str, PredictionBody]
    harmful: list[dict[str, Any]]


class TauCurve(BaseModel):
    """Kendall's tau-b among the first `n` search trials."""

    n: list[int]
    tau: list[float | None]


class TauBody(BaseModel):
    """How well the predictor ranks, by metric; empty with fewer than 10 trials."""

    metrics: dict[str, TauCurve]


class EpochBody(BaseModel):
    """Mean losses of one epoch of shared training."""

    epoch: int = Field(description="from 1")
    largest_loss: float = Field(description="of the largest candidate, or of the only one")
    student_loss: float = Field(description="of the others")


class SupernetBody(BaseModel):
    """A training of shared weights; empty before its first task."""

    number: int | None = Field(description="of the trial that tells")
    version: str | None
    reused_epochs: int
    history: list[EpochBody]


class CalibrationBody(BaseModel):
    """Latencies of a device as measured, and as predicted from its other measurements."""

    measured: list[float] = Field(description="milliseconds")
    predicted: list[float] = Field(description="milliseconds")
    std: list[float] = Field(description="of the predictions")
    error: float | None = Field(description="median relative error")
    tau: float | None = Field(description="Kendall's tau-b")
    needed: int = Field(description="measurements below which nothing is predicted")


class LayerBody(BaseModel):
    """A layer with weights, after pruning."""

    name: str
    part: str = Field(description="of the network: stem, stage1 …")
    kind: str
    n_in: int
    n_out: int
    kernel: int
    stride: int
    height: int
    width: int
    params: int
    macs: int
    zeros: float = Field(description="share of weights that are zero")
    weight_bits: int
    activation_bits: int
    ms: float | None = Field(description="of the exported file, by the runtime's own profile")


class SessionRequest(BaseModel):
    """A token, to be kept by the browser."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=200)


class SessionBody(BaseModel):
    """Who logged in."""

    owner: str
    role: str
