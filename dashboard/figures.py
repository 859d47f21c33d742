"""Plotly figures from plain trials and goals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dashboard.series import at_fidelity, best_so_far, hypervolume_trace
from nas.core import Fidelity, Goals, Trial, front_of

FRONT, SEARCH, DEPLOYED, LIMIT = "#d9480f", "#748ffc", "#099268", "#868e96"
N_DECISIONS = 12


def label(metric: str) -> str:
    """A metric's name for people: `latency_ms` as `latency (ms)`."""
    name, unit = metric, ""
    for suffix, written in (("_ms", "ms"), ("_bytes", "bytes"), ("_mj", "mJ")):
        if metric.endswith(suffix):
            name, unit = metric.removesuffix(suffix), f" ({written})"
    return name.replace("_", " ") + unit


def pareto_figure(trials: Sequence[Trial], goals: Goals, x: str, y: str) -> go.Figure:
    """Every completed trial by two metrics, the front joined, constraint bounds drawn.

    Hover shows key, metrics and decisions; symbols tell the fidelities apart.
    """
    figure = go.Figure()
    for fidelity, color, symbol in (
        (Fidelity.TRAINED, SEARCH, "circle"),
        (Fidelity.DEPLOYED, DEPLOYED, "diamond"),
    ):
        shown = [t for t in at_fidelity(trials, fidelity) if {x, y} <= t.metrics.keys()]
        if shown:
            opacity = 0.55 if fidelity is Fidelity.TRAINED else 0.95
            marker = {"color": color, "symbol": symbol, "size": 9, "opacity": opacity}
            figure.add_trace(_points(shown, x, y, fidelity.value, marker))
    members = [t for t in front_of(trials, goals).trials if {x, y} <= t.metrics.keys()]
    members.sort(key=lambda t: t.metrics[x])
    if members:
        marker = {"color": FRONT, "symbol": "diamond-open", "size": 14, "line": {"width": 2}}
        front = _points(members, x, y, "Pareto front", marker)
        if len(goals.objectives) == 2:
            front.update(mode="lines+markers", line={"color": FRONT, "width": 1, "shape": "hv"})
        figure.add_trace(front)
    for constraint in goals.constraints:
        line = {"line": {"color": LIMIT, "dash": "dash"}, "annotation_text": str(constraint)}
        if constraint.metric == x:
            figure.add_vline(constraint.bound, **line)
        elif constraint.metric == y:
            figure.add_hline(constraint.bound, **line)
    return _styled(figure, label(x), label(y))


def progress_figure(finished: Sequence[Trial], goals: Goals) -> go.Figure:
    """Hypervolume and best value per objective against completed search trials, finish order."""
    trials = at_fidelity(finished, Fidelity.TRAINED)
    names = [
        "hypervolume (share of the final)",
        *[f"best {label(o.metric)}" for o in goals.objectives],
    ]
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=names)
    count = np.arange(1, len(trials) + 1)
    series = [hypervolume_trace(trials, goals), *best_so_far(trials, goals).values()]
    for i, values in enumerate(series, 1):
        line = {"shape": "hv", "color": FRONT if i == 1 else SEARCH}
        figure.add_trace(go.Scatter(x=count, y=values, line=line, name=names[i - 1]), 1, i)
        figure.update_xaxes(title="completed trials", row=1, col=i)
    return _styled(figure).update_layout(showlegend=False)


def prediction_figure(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], metric: str, tau: float
) -> go.Figure:
    """Predictions for unseen candidates against what was measured, with the diagonal."""
    ends = [
        float(min(predicted.min(), measured.min())),
        float(max(predicted.max(), measured.max())),
    ]
    line = {"color": LIMIT, "dash": "dash"}
    figure = go.Figure(
        [
            go.Scatter(x=ends, y=ends, mode="lines", line=line, name="perfect"),
            go.Scatter(
                x=measured, y=predicted, mode="markers", marker={"color": SEARCH}, name=metric
            ),
        ]
    )
    figure.update_layout(title=f"{label(metric)}: Kendall tau {tau:.2f}", showlegend=False)
    return _styled(figure, "measured", "predicted (5-fold)")


def importance_figure(importances: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Share of each decision in explaining each metric, the largest 12 per metric."""
    titles = [label(metric) for metric in importances]
    figure = make_subplots(rows=1, cols=max(1, len(titles)), subplot_titles=titles)
    figure.update_layout(showlegend=False, height=420)
    for i, shares in enumerate(importances.values(), 1):
        top = list(shares.items())[:N_DECISIONS][::-1]
        names, values = [name for name, _ in top], [value for _, value in top]
        bar = go.Bar(x=values, y=names, orientation="h", marker_color=SEARCH)
        figure.add_trace(bar, 1, i)
        figure.update_xaxes(tickformat=".0%", row=1, col=i)
    return _styled(figure)


def _points(
    trials: Sequence[Trial], x: str, y: str, name: str, marker: Mapping[str, object]
) -> go.Scatter:
    return go.Scatter(
        x=[t.metrics[x] for t in trials],
        y=[t.metrics[y] for t in trials],
        mode="markers",
        name=name,
        marker=marker,
        text=[_hover(t) for t in trials],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(trial: Trial) -> str:
    assert trial.candidate is not None
    metrics = [f"{label(k)}: {v:.5g}" for k, v in trial.metrics.items()][:8]
    by_stage: dict[str, list[str]] = {}
    for name, value in trial.candidate.values.items():
        stage, _, field = name.partition(".")
        by_stage.setdefault(stage, []).append(f"{field} {value}")
    decisions = [f"{stage}: {', '.join(fields)}" for stage, fields in by_stage.items()]
    head = f"<b>trial {trial.number}</b> {trial.candidate.key}"
    return "<br>".join([head, *metrics, *decisions])


def _styled(figure: go.Figure, x: str | None = None, y: str | None = None) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.12},
    )
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure
