"""Parallel coordinates: which decisions led to which results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from dashboard.figures import FRONT, LIMIT, SEARCH, SEARCHED, label, styled
from dashboard.series import at_fidelity
from nas.core import Goals, Trial, front_of
from nas.core.candidate import Value

N_LINES = 300
"""Drawn at most besides the front; of more, an even share."""


@dataclass(frozen=True)
class _Axis:
    """One decision or objective.

    Attributes:
        name: for people.
        values: by number of a trial; inactive decisions are absent.
        places: height of the marks, 0 to 1, by what is written there.
    """

    name: str
    values: Mapping[int, float]
    places: Mapping[str, float]


def decisions_figure(trials: Sequence[Trial], goals: Goals) -> go.Figure | None:
    """Each search trial as a line through the options it chose and what it scored.

    The front is drawn above the others. None before the first such trial.
    """
    done = [t for fidelity in SEARCHED for t in at_fidelity(trials, fidelity)]
    if not done:
        return None
    on = {t.number for t in front_of(done, goals).trials}
    others = [t for t in done if t.number not in on]
    others = others[:: -(-len(others) // N_LINES) or 1]
    axes = [*_decisions(done), *_objectives(done, goals)]
    figure = go.Figure(
        [
            _lines([t.number for t in others], axes, "search trials", SEARCH, 0.25),
            _lines(sorted(on), axes, "Pareto front", FRONT, 0.9),
            _marks(axes),
        ]
    )
    for j in range(len(axes)):
        figure.add_vline(j, line={"color": LIMIT, "width": 1}, layer="below")
    names = [axis.name for axis in axes]
    figure.update_xaxes(tickvals=list(range(len(axes))), ticktext=names, showgrid=False)
    figure.update_yaxes(visible=False, range=[-0.14, 1.14])
    return styled(figure).update_layout(height=420)


def _decisions(done: Sequence[Trial]) -> list[_Axis]:
    """Those that were taken in more than one way."""
    chosen: dict[str, dict[int, Value]] = {}
    for trial in done:
        for name, value in (trial.candidate.values if trial.candidate else {}).items():
            chosen.setdefault(name, {})[trial.number] = value
    axes = []
    for name, values in chosen.items():
        numeric = all(isinstance(v, (int, float)) for v in values.values())
        options = sorted(set(values.values()), key=lambda v: (v if numeric else 0, str(v)))
        if len(options) > 1:
            place = {option: i / (len(options) - 1) for i, option in enumerate(options)}
            heights = {number: place[value] for number, value in values.items()}
            axes.append(_Axis(name, heights, {str(o): p for o, p in place.items()}))
    return axes


def _objectives(done: Sequence[Trial], goals: Goals) -> list[_Axis]:
    axes = []
    for i, metric in enumerate(o.metric for o in goals.objectives):
        values = {t.number: t.metrics[metric] for t in done if metric in t.metrics}
        if values:
            low, high = min(values.values()), max(values.values())
            span = high - low or 1.0
            heights = {number: (value - low) / span for number, value in values.items()}
            beyond = 0.05 + 0.05 * (i % 2)  # long numbers of neighbours on lines of their own
            ends = {_short(low): -beyond, _short(high): 1.0 + beyond}
            axes.append(_Axis(label(metric), heights, ends))
    return axes


def _lines(
    numbers: Sequence[int], axes: Sequence[_Axis], name: str, color: str, opacity: float
) -> go.Scatter:
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for number in numbers:
        x += [*range(len(axes)), None]
        y += [*(axis.values.get(number) for axis in axes), None]
        text += [f"trial {number}"] * (len(axes) + 1)
    line = {"color": color, "width": 1.5}
    hover = "%{text}<extra></extra>"
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        name=name,
        mode="lines",
        line=line,
        opacity=opacity,
        hovertemplate=hover,
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _marks(axes: Sequence[_Axis]) -> go.Scatter:
    """What is written at the axes."""
    found = [(j, p, text) for j, axis in enumerate(axes) for text, p in axis.places.items()]
    x, y, text = zip(*found, strict=True)
    size = {"size": 10}
    return go.Scatter(
        x=x, y=y, text=text, mode="text", textfont=size, hoverinfo="skip", showlegend=False
    )
