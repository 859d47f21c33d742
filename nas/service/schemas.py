"""What goes over the wire, for OpenAPI and for checking answers."""

from __future__ import annotations

from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nas.core import Token
from nas.spec import JobSpec

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


class SessionRequest(BaseModel):
    """A token, to be kept by the browser."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=200)


class SessionBody(BaseModel):
    """Who logged in."""

    owner: str
    role: str
