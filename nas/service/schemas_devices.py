"""What goes over the wire about devices, their agents and their tables of layers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nas.spec import SpaceSpec
from nas.table_builds import N_CANDIDATES, N_FILES


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


class CalibrationBody(BaseModel):
    """Latencies of a device as measured, and as predicted from its other measurements."""

    measured: list[float] = Field(description="milliseconds")
    predicted: list[float] = Field(description="milliseconds")
    std: list[float] = Field(description="of the predictions")
    error: float | None = Field(description="median relative error")
    tau: float | None = Field(description="Kendall's tau-b")
    needed: int = Field(description="measurements below which nothing is predicted")
