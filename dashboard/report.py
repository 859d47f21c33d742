"""One self-contained HTML file that tells what a search found and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from html import escape

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from dashboard.figures import (
    health_figures,
    importance_figure,
    label,
    legend,
    marked,
    pareto_figure,
    prediction_figure,
    progress_figures,
    supernet_figure,
    tau_figure,
)
from dashboard.page import place, render_page
from dashboard.parallel import decisions_figure
from nas.core import Goals, Trial, TrialState, front_of
from nas.core.trial import DIFFERENTIABLE, TrainShared

TEXT_COLUMNS = (
    "candidate",
    "state",
    "fidelity",
    "decisions",
    "bits per stage",
    "decision",
    "option",
    "harms",
)
SUPERNET = "supernet"
TOO_FEW = '<p class="note">Too few completed trials to tell (10 are needed).</p>'
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
        harmful: options that harm an objective and help none: decision, option, harmed metric, mean
            harm in its units, trials that had the option.
        narrowed: whether the search left such options out as it went.
        ranking: by metric: numbers of search trials and the predictor's tau among so many.
    """

    title: str
    facts: Mapping[str, str]
    goals: Goals
    trials: Sequence[Trial]
    finished: Sequence[Trial]
    predictions: Mapping[str, Prediction]
    importances: Mapping[str, Mapping[str, float]]
    harmful: Sequence[tuple[str, object, str, float, int]] = ()
    narrowed: bool = False
    ranking: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def render_report(content: ReportContent) -> str:
    """The report as HTML; it loads nothing from anywhere."""
    figures, sections = _sections(content)
    facts = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in content.facts.items()
    )
    body = f"""<h1>{escape(content.title)}</h1>
<p class="lead">{escape(_summary(content))}</p>
<dl>{facts}</dl>
{sections}"""
    return render_page(f"{content.title}: search report", body, figures)


def effort_share(trial: Trial) -> str:
    """` (1/9)` for a trial with a ninth of the full effort; nothing for a whole one."""
    if trial.effort == 1.0:
        return ""
    share = Fraction(trial.effort).limit_denominator(10_000)
    exact = abs(float(share) - trial.effort) < 1e-9 and share > 0
    return f" ({share})" if exact else f" ({trial.effort:.2g})"


def _sections(content: ReportContent) -> tuple[dict[str, go.Figure], str]:
    """Figures by the id of their place, and the HTML of all sections."""
    figures: dict[str, go.Figure] = {}
    parts = ["<h2>Best trade-offs</h2>", _front_table(content)]
    metrics = [o.metric for o in content.goals.objectives]
    for other in metrics[1:] or ["macs"]:
        name = f"pareto-{len(figures)}"
        figures[name] = pareto_figure(content.trials, content.goals, x=other, y=metrics[0])
        parts.append(place(name))
    parts.append("<h2>Progress</h2>")
    progress = progress_figures(content.finished, content.goals).values()
    parts.append(_side_by_side("progress", progress, figures))
    parts += _trainings(content, figures)
    parts += _knowledge(content, figures)
    drawn = decisions_figure(content.finished, content.goals)
    if drawn is not None:
        figures["decisions"] = drawn
        note = "Each line is a trial through the options it chose and what it scored."
        parts += ["<h2>Decisions and results</h2>", f'<p class="note">{note}</p>']
        parts.append(f'<div class="scroll wide" tabindex="0">{place("decisions")}</div>')
    parts.append("<h2>Decisions that matter most</h2>")
    if any(content.importances.values()):
        parts.append('<p class="note">Mean absolute SHAP values of boosted trees, as shares.</p>')
        importances = [importance_figure(m, shares) for m, shares in content.importances.items()]
        parts.append(_side_by_side("importance", importances, figures))
    else:
        parts.append(TOO_FEW)
    if content.harmful:
        parts += ["<h2>Options that only did harm</h2>", _harmful_table(content)]
    parts += ["<h2>All trials</h2>", _trial_table(content)]
    return figures, "\n".join(parts)


def _trainings(content: ReportContent, figures: dict[str, go.Figure]) -> list[str]:
    """What came before the first candidate: shared weights, a learned distribution."""
    parts = []
    shared = [t.provenance[SUPERNET].get("history") for t in content.finished if _trains(t)]
    if shared and shared[-1]:
        figures["supernet"] = supernet_figure(shared[-1])
        parts += ["<h2>The shared weights</h2>", place("supernet")]
    learned = [t for t in content.finished if DIFFERENTIABLE in t.provenance]
    if learned:
        parts += ["<h2>The learned distribution</h2>", _alarm(learned[-1])]
        history = learned[-1].provenance[DIFFERENTIABLE]["history"]
        metrics = [o.metric for o in content.goals.objectives]
        drawn = health_figures(history, list(dict.fromkeys([*metrics, "bit_ops"])))
        parts.append(_side_by_side("health", drawn, figures))
    return parts


def _knowledge(content: ReportContent, figures: dict[str, go.Figure]) -> list[str]:
    """How well the predictor knows the space, now and as the search went."""
    parts = ["<h2>How well the predictor knows the space</h2>"]
    if not content.predictions:
        return [*parts, TOO_FEW]
    predictions = [
        prediction_figure(predicted, measured, metric, tau)
        for metric, (predicted, measured, tau) in content.predictions.items()
    ]
    parts.append('<p class="note">Each trial is predicted from the others.</p>')
    parts.append(_side_by_side("prediction", predictions, figures))
    if content.ranking:
        figures["ranking"] = tau_figure(content.ranking)
        note = "The same among the first trials of the search, in hindsight."
        parts += [f'<p class="note">{note}</p>', place("ranking")]
    return parts


def _trains(trial: Trial) -> bool:
    """Whether it trained a supernet."""
    return isinstance(trial.task, TrainShared) and SUPERNET in trial.provenance


def _alarm(trial: Trial) -> str:
    """What the last task of a differentiable search says of its health."""
    if trial.metrics.get("collapsed"):
        share = trial.metrics["parameter_free_share"]
        return (
            f'<p class="alarm">Collapsed: {share:.0%} of the derived candidate\'s operations have '
            "no weights. Try more epochs, a longer warm-up, or to stop or adapt by curvature.</p>"
        )
    back = int(trial.metrics.get("rollbacks", 0))
    went = f" Curvature grew {back} times, and the training went back." if back else ""
    return f'<p class="note">Learned by gradients before the first candidate was tried.{went}</p>'


def _summary(content: ReportContent) -> str:
    done = [t for t in content.trials if t.state is TrialState.COMPLETED]
    n_failed = sum(t.state is TrialState.FAILED for t in content.trials)
    front = front_of(content.trials, content.goals)
    if not done:
        return "No trial has completed yet: nothing can be said about trade-offs."
    failed = f", {n_failed} failed" if n_failed else ""
    if front.fidelity is None:
        return f"{len(done)} completed trials{failed}; no candidate had full effort yet."
    return (
        f"{len(done)} completed trials{failed}; {len(front.trials)} best trade-offs "
        f"among {front.n_considered} {front.fidelity} candidates."
    )


def _harmful_table(content: ReportContent) -> str:
    said = (
        "The search left such options out as it went."
        if content.narrowed
        else "The search went on trying them; --strategy-option narrowing=1 leaves them out."
    )
    head = {"decision": "", "option": "", "harms": "", "mean harm": "", "trials": ""}
    rows = [
        [_text(decision), _text(str(option)), _text(metric), _number(harm), _number(n)]
        for decision, option, metric, harm, n in content.harmful
    ]
    note = f"By SHAP values of boosted trees; options of the best trade-offs are spared. {said}"
    return f'<p class="note">{escape(note)}</p>' + _table("harmful", head, rows)


def _front_table(content: ReportContent) -> str:
    front = front_of(content.trials, content.goals)
    if not front.trials:
        scored = front.fidelity is not None
        why = "No completed trial meets all constraints." if scored else "No candidate scored yet."
        return f'<p class="note">{why}</p>'
    wanted = (*content.goals.metrics, *ALSO_SHOWN)
    metrics = [m for m in dict.fromkeys(wanted) if all(m in t.metrics for t in front.trials)]
    how = {m: ", ".join(sorted({t.kind(m) for t in front.trials} - {""})) for m in metrics}
    head = {"candidate": "", **how, "bits per stage": ""}
    rows = [
        [
            _text(t.candidate.key if t.candidate else ""),
            *[_metric(t, m) for m in metrics],
            _text(_bits(t)),
        ]
        for t in front.trials
    ]
    return _table("front", head, rows) + _legend(front.trials, metrics)


def _trial_table(content: ReportContent) -> str:
    metrics = content.goals.metrics
    head = dict.fromkeys(("trial", "state", "fidelity", *metrics, "seconds", "decisions"), "")
    rows = []
    for t in content.trials:
        cells = [_number(t.number), _text(t.state), _text(_fidelity(t))]
        cells += [_metric(t, m) if m in t.metrics else _text("") for m in metrics]
        cells.append(_number(t.seconds))
        values = t.candidate.values if t.candidate else {}
        said = t.error or ", ".join(f"{k}={v}" for k, v in values.items())
        cells.append(_text(said, "text error" if t.error else "text"))
        rows.append(cells)
    box = '<label>Filter <input id="filter" type="search" placeholder="text in a row"></label>'
    return box + _table("trials", head, rows) + _legend(content.trials, metrics)


def _fidelity(trial: Trial) -> str:
    return f"{trial.fidelity or ''}{effort_share(trial)}"


def _table(name: str, head: Mapping[str, str], rows: Iterable[Iterable[str]]) -> str:
    """A sortable table; `head` maps each column's name to a small remark under it."""
    cells = "".join(
        f'<th scope="col" class="{"text" if h in TEXT_COLUMNS else ""}">'
        f"<button>{escape(label(h))}</button>"
        f'<span class="how">{escape(remark)}</span></th>'
        for h, remark in head.items()
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    table = f'<table id="{name}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _number(value: float, mark: str = "") -> str:
    text = f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"
    return f'<td data-value="{value!r}">{mark}{text}</td>'


def _metric(trial: Trial, metric: str) -> str:
    return _number(trial.metrics[metric], marked(trial, metric, ""))


def _legend(trials: Sequence[Trial], metrics: Iterable[str]) -> str:
    told = legend(t.kind(m) for m in metrics for t in trials if m in t.metrics)
    return f'<p class="note">{escape(told)}.</p>' if told else ""


def _text(value: str, css_class: str = "text") -> str:
    return f'<td class="{css_class}">{escape(str(value))}</td>'


def _bits(trial: Trial) -> str:
    asked = trial.provenance.get("latency_ms", {}).get("asked", {})
    return " ".join(str(bits) for bits in asked.values())


def _side_by_side(name: str, drawn: Iterable[go.Figure], figures: dict[str, go.Figure]) -> str:
    """Places for `drawn`, which are added to `figures`; below each other on narrow screens."""
    places = {f"{name}-{i}": figure for i, figure in enumerate(drawn)}
    figures.update(places)
    return f'<div class="pair">{"".join(map(place, places))}</div>'
