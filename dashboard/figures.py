"""Plotly figures from plain trials and goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.series import at_fidelity, best_so_far, hypervolume_trace
from nas.core import Fidelity, Goals, Trial, front_of
from nas.core.goals import metric_and_device
from nas.core.trial import MARKS

FRONT, SEARCH, DEPLOYED, LIMIT = "#d9480f", "#748ffc", "#099268", "#868e96"
SYMBOLS = {"": "circle", "measured": "diamond", "simulated": "circle", "predicted": "triangle-up"}
"""By how far the values of a point can be trusted; "" where nobody said how they came about."""
N_DECISIONS = 12
MEANINGS = {
    "simulated": "simulated by the network with rounded weights and activations, "
    "or by the table that a device is",
    "predicted": "predicted while the device was away",
}
SEARCHED = (Fidelity.INHERITED, Fidelity.TRAINED)


def label(metric: str) -> str:
    """A metric's name for people: `latency_ms@pi` as `latency (ms) on pi`."""
    what, device = metric_and_device(metric)
    if device:
        return f"{label(what)} on {device}"
    name, unit = metric, ""
    for suffix, written in (("_ms", "ms"), ("_bytes", "bytes"), ("_mj", "mJ")):
        if metric.endswith(suffix):
            name, unit = metric.removesuffix(suffix), f" ({written})"
    return name.replace("_", " ") + unit


def marked(trial: Trial, metric: str, text: str) -> str:
    """`text`, a value of the trial, with the mark of its kind where nobody measured it."""
    return MARKS.get(trial.kind(metric), "") + text


def legend(kinds: Iterable[str]) -> str:
    """What the marks of these kinds mean, in a sentence; nothing where none has a mark."""
    found = set(kinds)
    told = "; ".join(f"{MARKS[kind]} {text}" for kind, text in MEANINGS.items() if kind in found)
    return f"{told}; all else is measured or computed" if told else ""


def pareto_figure(trials: Sequence[Trial], goals: Goals, x: str, y: str) -> go.Figure:
    """Every completed trial by two metrics, the front joined, constraint bounds drawn.

    Hover shows key, metrics and decisions; colours tell the fidelities apart, symbols whether both
    values were measured, or one was simulated or predicted.
    """
    figure = go.Figure()
    for fidelity, color in (
        (Fidelity.INHERITED, SEARCH),
        (Fidelity.TRAINED, SEARCH),
        (Fidelity.DEPLOYED, DEPLOYED),
    ):
        there = [t for t in at_fidelity(trials, fidelity) if {x, y} <= t.metrics.keys()]
        for kind, symbol in SYMBOLS.items():
            shown = [t for t in there if _least({t.kind(x), t.kind(y)}) == kind]
            if shown:
                opacity = 0.95 if fidelity is Fidelity.DEPLOYED else 0.55
                marker = {"color": color, "symbol": symbol, "size": 9, "opacity": opacity}
                name = f"{fidelity.value}, {kind}" if kind else fidelity.value
                figure.add_trace(_points(shown, x, y, name, marker))
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
    return styled(figure, label(x), label(y)).update_layout(height=420)


def progress_figures(finished: Sequence[Trial], goals: Goals) -> dict[str, go.Figure]:
    """By title: hypervolume and best value per objective against completed search trials."""
    trials = [t for f in SEARCHED for t in at_fidelity(finished, f)]
    series = {"hypervolume (share of the final)": hypervolume_trace(trials, goals)}
    for metric, values in best_so_far(trials, goals).items():
        series[f"best {label(metric)}"] = values
    count = np.arange(1, len(trials) + 1)
    figures = {}
    for i, (title, values) in enumerate(series.items()):
        line = {"shape": "hv", "color": SEARCH if i else FRONT}
        figure = go.Figure(go.Scatter(x=count, y=values, line=line, name=title))
        figures[title] = styled(figure, "completed trials").update_layout(title=title, height=300)
    return figures


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
    return styled(figure, "measured", "predicted (5-fold)")


def importance_figure(metric: str, shares: Mapping[str, float]) -> go.Figure:
    """Share of each decision in explaining `metric`, the largest 12, largest on top."""
    top = list(shares.items())[:N_DECISIONS][::-1]
    names, values = [name for name, _ in top], [value for _, value in top]
    figure = go.Figure(go.Bar(x=values, y=names, orientation="h", marker_color=SEARCH))
    figure.update_xaxes(tickformat=".0%")
    return styled(figure).update_layout(title=label(metric), margin={"l": 170})


def health_figures(history: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[go.Figure]:
    """A differentiable search by epoch: what discretisation costs, the distribution, its costs.

    Args:
        history: one record an epoch, as a training task reports them.
        metrics: costs to show, expected and of the derived candidate, where the history has them.
    """
    epochs = [h["epoch"] for h in history]

    def drawn(title: str, lines: Mapping[str, Sequence[float | None]]) -> go.Figure:
        colors = (FRONT, SEARCH, DEPLOYED)
        scatters = [
            go.Scatter(x=epochs, y=values, name=name, line={"color": c}, connectgaps=True)
            for (name, values), c in zip(lines.items(), colors, strict=False)
        ]
        return styled(go.Figure(scatters), "epoch").update_layout(title=title, height=300)

    def column(name: str) -> list[float | None]:
        return [h[name] for h in history]

    figures = [
        drawn(
            "validation accuracy",
            {"mixture": column("relaxed_accuracy"), "derived": column("derived_accuracy")},
        ),
        drawn(
            "distribution",
            {"entropy": column("entropy"), "without weights": column("parameter_free_share")},
        ),
    ]
    if any(value is not None for value in column("curvature")):
        figures.append(drawn("dominant eigenvalue", {"curvature": column("curvature")}))
    for metric in metrics:
        if metric in history[-1]["expected_costs"]:
            lines = {
                "expected": [h["expected_costs"][metric] for h in history],
                "derived": [h["derived_costs"][metric] for h in history],
            }
            figures.append(drawn(label(metric), lines))
    return figures


def _least(kinds: Set[str]) -> str:
    """The kind that can be trusted least."""
    return next((kind for kind in ("predicted", "simulated", "measured") if kind in kinds), "")


def supernet_figure(history: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Training losses of shared weights by epoch.

    Args:
        history: one record an epoch, as a training task reports them.
    """
    epochs = [h["epoch"] for h in history]
    lines = {"largest candidate": "largest_loss", "other candidates": "student_loss"}
    if all(h["largest_loss"] == h["student_loss"] for h in history):
        lines = {"candidates drawn": "student_loss"}
    figure = go.Figure(
        [
            go.Scatter(x=epochs, y=[h[key] for h in history], name=name, line={"color": color})
            for (name, key), color in zip(lines.items(), (FRONT, SEARCH), strict=False)
        ]
    )
    return styled(figure, "epoch", "loss").update_layout(height=300, showlegend=True)


def tau_figure(curves: Mapping[str, Sequence[tuple[int, float]]]) -> go.Figure:
    """How well the predictor ranked the first trials, by metric.

    Args:
        curves: number of search trials and Kendall's tau among them.
    """
    scatters = [
        go.Scatter(
            x=[n for n, _ in pairs],
            y=[None if np.isnan(tau) else tau for _, tau in pairs],
            name=label(metric),
            mode="lines+markers",
            marker={"symbol": i},
        )
        for i, (metric, pairs) in enumerate(curves.items())
    ]
    figure = styled(go.Figure(scatters), "search trials", "Kendall's tau")
    return figure.update_layout(height=300, showlegend=True)


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
    metrics = [f"{label(k)}: {marked(trial, k, f'{v:.5g}')}" for k, v in trial.metrics.items()][:8]
    by_stage: dict[str, list[str]] = {}
    for name, value in trial.candidate.values.items():
        stage, _, field = name.partition(".")
        by_stage.setdefault(stage, []).append(f"{field} {value}")
    decisions = [f"{stage}: {', '.join(fields)}" for stage, fields in by_stage.items()]
    head = f"<b>trial {trial.number}</b> {trial.candidate.key}"
    return "<br>".join([head, *metrics, *decisions])


def styled(figure: go.Figure, x: str | None = None, y: str | None = None) -> go.Figure:
    """The figure in the style of all pages, axes named."""
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "y": 1.12},
        modebar={"bgcolor": "rgba(0,0,0,0)"},
    )
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure
