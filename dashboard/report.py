"""One self-contained HTML file that tells what a search found and how far to trust it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from dashboard.figures import (
    importance_figure,
    label,
    pareto_figure,
    prediction_figure,
    progress_figure,
)
from nas.core import Goals, Trial, TrialState, front_of

Prediction = tuple[NDArray[np.float64], NDArray[np.float64], float]
ALSO_SHOWN = (
    "test_accuracy",
    "latency_p90_ms",
    "latency_ratio",
    "file_bytes",
    "weight_bytes",
    "params",
    "macs",
    "ece",
)


@dataclass(frozen=True)
class ReportContent:
    """Everything a report shows.

    Attributes:
        title: the job's name.
        facts: short facts about the job, by name.
        goals: objectives and constraints.
        trials: all trials, by number.
        finished: finished trials, in finish order.
        predictions: by metric: predicted, measured and their Kendall tau.
        importances: by metric: share per decision.
    """

    title: str
    facts: Mapping[str, str]
    goals: Goals
    trials: Sequence[Trial]
    finished: Sequence[Trial]
    predictions: Mapping[str, Prediction]
    importances: Mapping[str, Mapping[str, float]]


def render_report(content: ReportContent) -> str:
    """The report as HTML; it loads nothing from anywhere."""
    figures, sections = _sections(content)
    payload = [{"target": name, **json.loads(figure.to_json())} for name, figure in figures.items()]
    facts = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in content.facts.items()
    )
    title = escape(content.title)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: search report</title>
<style>{_static("report.css")}</style>
</head>
<body>
<h1>{title}</h1>
<p class="lead">{escape(_summary(content))}</p>
<dl>{facts}</dl>
{sections}
<script type="application/json" id="figures">{_safe_json(payload)}</script>
<script>{get_plotlyjs()}</script>
<script>{_static("report.js")}</script>
</body>
</html>
"""


def _sections(content: ReportContent) -> tuple[dict[str, go.Figure], str]:
    """Figures by the id of their place, and the HTML of all sections."""
    figures: dict[str, go.Figure] = {}
    parts = ["<h2>Best trade-offs</h2>", _front_table(content)]
    metrics = [o.metric for o in content.goals.objectives]
    for other in metrics[1:] or ["macs"]:
        name = f"pareto-{len(figures)}"
        figures[name] = pareto_figure(content.trials, content.goals, x=other, y=metrics[0])
        parts.append(_place(name))
    parts.append("<h2>Progress</h2>")
    figures["progress"] = progress_figure(content.finished, content.goals)
    parts.append(_place("progress"))
    parts.append("<h2>How well the predictor knows the space</h2>")
    if content.predictions:
        parts.append(
            '<p class="note">Each trial is predicted from the others.</p><div class="pair">'
        )
        for i, (metric, (predicted, measured, tau)) in enumerate(content.predictions.items()):
            figures[f"prediction-{i}"] = prediction_figure(predicted, measured, metric, tau)
            parts.append(_place(f"prediction-{i}"))
        parts.append("</div>")
    else:
        parts.append('<p class="note">Too few completed trials to tell (10 are needed).</p>')
    parts.append("<h2>Decisions that matter most</h2>")
    if any(content.importances.values()):
        figures["importance"] = importance_figure(content.importances)
        parts.append('<p class="note">Mean absolute SHAP values of boosted trees, as shares.</p>')
        parts.append(_place("importance"))
    else:
        parts.append('<p class="note">Too few completed trials to tell (10 are needed).</p>')
    parts += ["<h2>All trials</h2>", _trial_table(content)]
    return figures, "\n".join(parts)


def _summary(content: ReportContent) -> str:
    done = [t for t in content.trials if t.state is TrialState.COMPLETED]
    n_failed = sum(t.state is TrialState.FAILED for t in content.trials)
    front = front_of(content.trials, content.goals)
    if not done:
        return "No trial has completed yet: nothing can be said about trade-offs."
    failed = f", {n_failed} failed" if n_failed else ""
    return (
        f"{len(done)} completed trials{failed}; {len(front.trials)} best trade-offs "
        f"among {front.n_considered} {front.fidelity} candidates."
    )


def _front_table(content: ReportContent) -> str:
    front = front_of(content.trials, content.goals)
    if not front.trials:
        return '<p class="note">No completed trial meets all constraints.</p>'
    wanted = (*content.goals.metrics, *ALSO_SHOWN)
    metrics = [m for m in dict.fromkeys(wanted) if all(m in t.metrics for t in front.trials)]
    head = ["candidate", *metrics, "bits per stage"]
    rows = [
        [
            _text(t.candidate.key if t.candidate else ""),
            *[_number(t.metrics[m], _how(t, m)) for m in metrics],
            _text(_bits(t)),
        ]
        for t in front.trials
    ]
    return _table("front", head, rows)


def _trial_table(content: ReportContent) -> str:
    metrics = content.goals.metrics
    head = ["trial", "state", "fidelity", *metrics, "seconds", "decisions"]
    rows = []
    for t in content.trials:
        cells = [_number(t.number), _text(t.state), _text(t.fidelity or "")]
        cells += [_number(t.metrics[m]) if m in t.metrics else _text("") for m in metrics]
        cells.append(_number(t.seconds))
        values = t.candidate.values if t.candidate else {}
        said = t.error or ", ".join(f"{k}={v}" for k, v in values.items())
        cells.append(_text(said, "text error" if t.error else "text"))
        rows.append(cells)
    box = '<label>Filter <input id="filter" type="search" placeholder="text in a row"></label>'
    return box + _table("trials", head, rows)


def _table(name: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = "".join(f'<th scope="col"><button>{escape(label(h))}</button></th>' for h in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    table = f'<table id="{name}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _number(value: float, how: str = "") -> str:
    mark = f'<span class="how">{escape(how)}</span>' if how else ""
    text = f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"
    return f'<td data-value="{value!r}">{text}{mark}</td>'


def _text(value: str, css_class: str = "text") -> str:
    return f'<td class="{css_class}">{escape(str(value))}</td>'


def _how(trial: Trial, metric: str) -> str:
    """How a metric came about: measured, simulated or computed."""
    source = trial.provenance.get(metric)
    if source is None and metric.startswith("latency"):
        source = trial.provenance.get("latency_ms")
    source = source or trial.provenance.get("costs") or {}
    return str(source.get("kind", ""))


def _bits(trial: Trial) -> str:
    asked = trial.provenance.get("latency_ms", {}).get("asked", {})
    return " ".join(str(bits) for bits in asked.values())


def _place(name: str) -> str:
    return f'<div class="figure" id="{name}"></div>'


def _safe_json(payload: Any) -> str:
    return json.dumps(payload, separators=(",", ":")).replace("<", "\\u003c")


def _static(name: str) -> str:
    return files("dashboard").joinpath("static", name).read_text()
