"""What timing a file on a device tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from nas.core.errors import InvalidInputError

Interval = tuple[float, float]


@dataclass(frozen=True)
class LatencyQuantiles:
    """Milliseconds per inference, from single runs."""

    p10: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Profile:
    """One artifact timed on one device.

    Attributes:
        latency_ms: quantiles over the runs.
        latency_interval: of the median, 95 %.
        latency_ratio: calm latency (5 % quantile) over that of the reference model, run in turn.
        ratio_interval: of the ratio, 95 %.
        n_runs: timed runs, after warm-up.
        spread: interquartile range over the median.
        load_ms: time to load the artifact.
        peak_memory_bytes: most memory that loading and running took; None where the platform does
            not tell, or nobody asked.
        energy_mj: per inference; None where the platform does not tell.
        conditions: device, runtime, versions, threads, batch, operators executed per precision.
        reference_ms: what the reference model takes on this device when nothing disturbs it,
            measured once and kept; None where that is not known.
    """

    latency_ms: LatencyQuantiles
    latency_interval: Interval
    latency_ratio: float
    ratio_interval: Interval
    n_runs: int
    spread: float
    load_ms: float
    peak_memory_bytes: int | None
    energy_mj: float | None
    conditions: Mapping[str, Any]
    reference_ms: float | None = None

    @property
    def calm_ms(self) -> float:
        """Milliseconds when nothing disturbs the device: the ratio times the reference's.

        Repeats as well as the ratio does. The median of the runs where no reference is known.
        """
        known = self.reference_ms
        return self.latency_ms.p50 if known is None else self.latency_ratio * known

    @property
    def calm_interval(self) -> Interval:
        """95 % interval of `calm_ms`, for this device's one reference."""
        known = self.reference_ms
        if known is None:
            return self.latency_interval
        return self.ratio_interval[0] * known, self.ratio_interval[1] * known

    @property
    def metrics(self) -> dict[str, float]:
        """Every figure by the name of its metric; what is not known is absent."""
        found = {
            "latency_ms": self.calm_ms,
            "latency_p50_ms": self.latency_ms.p50,
            "latency_p10_ms": self.latency_ms.p10,
            "latency_p90_ms": self.latency_ms.p90,
            "latency_p99_ms": self.latency_ms.p99,
            "latency_ratio": self.latency_ratio,
            "load_ms": self.load_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "energy_mj": self.energy_mj,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    def source(self, on: str) -> dict[str, Any]:
        """How its latency came about, for provenance; `on` is what was timed, and where."""
        return {
            "kind": "measured",
            "on": on,
            "n_runs": self.n_runs,
            "spread": self.spread,
            "interval": list(self.calm_interval),
            "ratio_interval": list(self.ratio_interval),
            "conditions": dict(self.conditions),
        }

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal profile."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            InvalidInputError: fields that are missing, too many, or not finite numbers.
        """
        try:
            ordinary = {name: float(body[name]) for name in ("latency_ratio", "spread", "load_ms")}
            peak, energy = body["peak_memory_bytes"], body["energy_mj"]
            known = body.get("reference_ms")
            profile = cls(
                latency_ms=LatencyQuantiles(**{k: float(v) for k, v in body["latency_ms"].items()}),
                latency_interval=_interval(body["latency_interval"]),
                ratio_interval=_interval(body["ratio_interval"]),
                n_runs=int(body["n_runs"]),
                peak_memory_bytes=None if peak is None else int(peak),
                energy_mj=None if energy is None else float(energy),
                conditions=dict(body["conditions"]),
                reference_ms=None if known is None else float(known),
                **ordinary,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidInputError("profile", repr(body)[:200], f"a profile ({error!r})") from None
        numbers = (*profile.metrics.values(), *profile.latency_interval, *profile.ratio_interval)
        numbers = (*numbers, profile.spread, profile.reference_ms or 0.0)
        if not all(0.0 <= number < float("inf") for number in numbers):
            raise InvalidInputError("profile", repr(body)[:200], "finite numbers from 0")
        return profile


def _interval(pair: Any) -> Interval:
    low, high = pair
    return float(low), float(high)
