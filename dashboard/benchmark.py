"""The page of a benchmark: how far each strategy had come after each query."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures import styled
from dashboard.page import place, render_page

COLORS = ("#d9480f", "#4263eb", "#099268", "#9c36b5", "#e8590c", "#0c8599", "#868e96", "#2b8a3e")


def benchmark_page(title: str, measure: str, curves: Mapping[str, NDArray[np.float64]]) -> str:
    """HTML with one curve a strategy.

    Args:
        title: of the page.
        measure: what the values are, for people.
        curves: `(seeds, queries)` values by strategy; nan before the first.
    """
    figure = benchmark_figure(curves, measure)
    lead = "Medians over seeds after each query; the bands hold the middle half of the seeds."
    body = f'<h1>{escape(title)}</h1>\n<p class="lead">{lead}</p>\n{place("curves")}'
    return render_page(title, body, {"curves": figure})


def benchmark_figure(curves: Mapping[str, NDArray[np.float64]], measure: str) -> go.Figure:
    """Median and quartiles against the number of queries."""
    figure = go.Figure()
    for i, (name, values) in enumerate(curves.items()):
        shown = ~np.isnan(values).any(axis=0)
        count = np.arange(1, values.shape[1] + 1)[shown]
        if not len(count):
            continue
        low, middle, high = np.percentile(values[:, shown], [25, 50, 75], axis=0)
        color = COLORS[i % len(COLORS)]
        band = go.Scatter(
            x=np.concatenate([count, count[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=color,
            opacity=0.15,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
        )
        line = {"shape": "hv", "color": color}
        figure.add_trace(band)
        figure.add_trace(go.Scatter(x=count, y=middle, name=name, line=line, legendgroup=name))
    return styled(figure, "queries", measure).update_layout(height=520)
