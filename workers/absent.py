"""What a device that is away would measure: by what it measured before, or by its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.core import Work
from nas.core.device import Estimate, Estimator, Features
from workers.files import FILE_BYTES, NODES
from workers.profiling.layers import layers_of
from workers.tables import LayerTable

LATENCY = "latency_ms"
KNOWN = "latency_ratio@cpu"
"""Feature that is this machine's own latency, a device already known."""
TABLE = "table_ms"
"""Feature that is the sum over a file's layers on the device named after the `@`."""
BY_FILE = ("peak_memory_bytes", "load_ms")
"""Metrics of loading, which go by the file; the others go by what it computes."""
NORMAL_MEDIAN = 0.6745
"""Median of a standard normal's absolute value."""


def estimates(
    metrics: Sequence[str],
    estimator: Estimator,
    works: Sequence[Work],
    features: Features,
    by_table: Estimate | None,
) -> dict[str, Estimate]:
    """What a device would measure; without the metrics of which too little is known.

    Args:
        metrics: of `DEVICE_METRICS`.
        estimator: predicts one figure from others of its kind.
        works: what the device did, newest first.
        features: of what is asked.
        by_table: latency by the device's table, where it has one.
    """
    found = {}
    for metric in metrics:
        estimate = estimator(lessons_of(works, metric), _of(metric, features))
        if estimate is None and metric == LATENCY:
            estimate = by_table
        if estimate is not None:
            found[metric] = estimate
    return found


def lessons_of(works: Sequence[Work], metric: str = LATENCY) -> list[tuple[Features, float]]:
    """Features and figure of work that was done, tells its features and has the figure."""
    return [
        (_of(metric, work.about["features"]), profile.metrics[metric])
        for work in works
        if "features" in work.about
        and (profile := work.measured) is not None
        and metric in profile.metrics
    ]


def by_table(table: LayerTable, path: Path) -> Estimate:
    """Latency of a file by a table that was fitted to whole files."""
    found, error = table.sum_of(layers_of(path)), table.error or 0.0
    source = f"its table of layers, {found.n_interpolated} of {found.n_layers} interpolated"
    return Estimate(found.ms, found.ms * error / NORMAL_MEDIAN, error, table.n_files, source)


def _of(metric: str, features: Mapping[str, float]) -> Features:
    """The features that a metric goes by: `tests/benchmarks/memory_here.py` compares."""
    is_by_file = metric in BY_FILE
    return {k: v for k, v in features.items() if (k in (FILE_BYTES, NODES)) == is_by_file}
