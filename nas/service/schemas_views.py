"""What goes over the wire for people who look: tables, analysis, shared training, layers."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


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
