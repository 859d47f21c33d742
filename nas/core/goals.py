"""What a search is for: objectives to trade off and constraints to keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.core.errors import InvalidInputError


class Direction(StrEnum):
    """Which way an objective is better."""

    MINIMIZE = "min"
    MAXIMIZE = "max"


class Relation(StrEnum):
    """Which side of its bound a constraint keeps."""

    AT_MOST = "<="
    AT_LEAST = ">="


METRIC = r"[A-Za-z][\w.]*(?:@[\w.-]+)?"
"""A metric name, and after an @ the device it is measured on."""


def on_device(metric: str, device: str) -> str:
    """The name of a metric as `device` tells it."""
    return f"{metric}@{device}"


def metric_and_device(name: str) -> tuple[str, str]:
    """What `on_device` was made of; no device for what needs none, or this machine alone."""
    metric, _, device = name.partition("@")
    return metric, device


def default_direction(metric: str) -> Direction:
    """Accuracies, probabilities and throughputs are better high; times, sizes and energies low."""
    higher = ("accuracy", "probability", "throughput", "psnr", "f1", "auc")
    name, _ = metric_and_device(metric)
    return Direction.MAXIMIZE if any(word in name for word in higher) else Direction.MINIMIZE


@dataclass(frozen=True)
class Objective:
    """One metric to optimise; text form `metric`, `metric:min` or `metric:max`."""

    metric: str
    direction: Direction

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            InvalidInputError: not of that form.
        """
        match = re.fullmatch(rf"({METRIC})(?::(min|max))?", text.strip())
        if match is None:
            raise InvalidInputError("objective", text, "metric, metric:min or metric:max")
        metric, direction = match.groups()
        return cls(metric, Direction(direction) if direction else default_direction(metric))

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"


@dataclass(frozen=True)
class Constraint:
    """A metric kept at most or at least at a bound; text form `latency_ms<=0.3`."""

    metric: str
    relation: Relation
    bound: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            InvalidInputError: not of that form, or the bound is not a finite number.
        """
        match = re.fullmatch(rf"\s*({METRIC})\s*(<=|>=)\s*(\S+)\s*", text)
        expected = "metric<=number or metric>=number, for example latency_ms<=0.3"
        if match is None:
            raise InvalidInputError("constraint", text, expected)
        metric, relation, number = match.groups()
        try:
            bound = float(number)
        except ValueError:
            raise InvalidInputError("constraint", text, expected) from None
        if not math.isfinite(bound):
            raise InvalidInputError("constraint", text, expected)
        return cls(metric, Relation(relation), bound)

    def __str__(self) -> str:
        return f"{self.metric}{self.relation}{self.bound:g}"

    def excess(self, values: ArrayLike) -> NDArray[np.float64]:
        """How far each value is on the wrong side, relative to the bound's size; 0 where met.

        Values that are not numbers (nan) count as infinitely far.
        """
        values = np.asarray(values, dtype=np.float64)
        gap = values - self.bound if self.relation is Relation.AT_MOST else self.bound - values
        scaled = np.maximum(gap, 0.0) / max(abs(self.bound), 1e-12)
        return np.where(np.isnan(values), np.inf, scaled)

    def met(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Which values satisfy the constraint."""
        return self.excess(values) == 0.0


@dataclass(frozen=True)
class Goals:
    """Objectives and constraints of a job.

    Raises:
        InvalidInputError: no objective, or a metric that is an objective twice.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if not self.objectives:
            raise InvalidInputError("objectives", [], "at least one objective")
        metrics = [o.metric for o in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise InvalidInputError("objectives", metrics, "each metric only once")

    @classmethod
    def parse(cls, objectives: Iterable[str], constraints: Iterable[str] = ()) -> Self:
        """Read text forms, for example `["accuracy", "latency_ms:min"], ["weight_bytes<=2e4"]`."""
        return cls(
            tuple(Objective.parse(o) for o in objectives),
            tuple(Constraint.parse(c) for c in constraints),
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric named, objectives first, without repeats."""
        names = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))

    def losses(self, columns: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """`(n, m)` objective values turned so that less is better; the one place that is done."""
        sides = []
        for objective in self.objectives:
            values = np.asarray(columns[objective.metric], dtype=np.float64)
            sides.append(-values if objective.direction is Direction.MAXIMIZE else values)
        return np.stack(sides, axis=-1)

    def violations(self, columns: Mapping[str, ArrayLike], n: int) -> NDArray[np.float64]:
        """`(n,)` sum of relative excesses over the constraints whose metric is among `columns`."""
        total = np.zeros(n)
        for constraint in self.constraints:
            if constraint.metric in columns:
                total += constraint.excess(columns[constraint.metric])
        return total


def columns_of(
    rows: Sequence[Mapping[str, float]], metrics: Iterable[str]
) -> dict[str, NDArray[np.float64]]:
    """`(n,)` column per metric from `n` metric mappings, nan where one lacks it."""
    return {m: np.array([row.get(m, np.nan) for row in rows], dtype=np.float64) for m in metrics}
