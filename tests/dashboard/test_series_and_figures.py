from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from dashboard.figures import (
    importance_figure,
    label,
    pareto_figure,
    progress_figures,
    supernet_figure,
)
from dashboard.parallel import N_LINES, decisions_figure
from dashboard.report import ReportContent, effort_share, render_report
from dashboard.series import best_so_far, hypervolume_trace
from nas.core import Candidate, Evaluate, Fidelity, Goals, TrainShared, Trial
from nas.core.candidate import Value

GOALS = Goals.parse(["accuracy", "latency_ms"], ["weight_bytes<=80"])


def trials(n: int, fidelity: Fidelity = Fidelity.TRAINED, seed: int = 0) -> list[Trial]:
    rng = np.random.default_rng(seed)
    out = []
    for number in range(n):
        candidate = Candidate({"stage1.width": 8, "stage1.keep": 0.5}, f"{number:016x}")
        metrics = {
            "accuracy": float(rng.random()),
            "latency_ms": float(rng.random()),
            "weight_bytes": float(rng.integers(10, 100)),
        }
        out.append(Trial(number, Evaluate(candidate, fidelity)).completed(metrics))
    return out


def dominated_share(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Share of the box that `points (n, 2)` dominate, by counting a fine grid."""
    side = [np.linspace(a, b, 801)[:-1] + (b - a) / 1600 for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*side), axis=-1)
    covered = np.zeros(grid.shape[:2], dtype=bool)
    for point in points:
        covered |= (grid >= point).all(axis=-1)
    return float(covered.mean())


def test_the_hypervolume_trace_is_what_a_grid_counts() -> None:
    done = trials(25)
    losses = np.array([[-t.metrics["accuracy"], t.metrics["latency_ms"]] for t in done])
    feasible = np.array([t.metrics["weight_bytes"] <= 80 for t in done])
    span = np.ptp(losses, axis=0)
    low, high = losses.min(axis=0), losses.max(axis=0) + 0.1 * span
    counted = [dominated_share(losses[:i][feasible[:i]], low, high) for i in range(1, 26)]
    trace = hypervolume_trace(done, GOALS)
    np.testing.assert_allclose(trace, np.array(counted) / counted[-1], atol=0.01)
    assert trace[-1] == pytest.approx(1.0)


def test_best_so_far_counts_feasible_trials_only_and_keeps_units() -> None:
    done = trials(25)
    best = best_so_far(done, GOALS)
    for i in range(25):
        able = [t.metrics for t in done[: i + 1] if t.metrics["weight_bytes"] <= 80]
        expected = max((m["accuracy"] for m in able), default=np.nan)
        np.testing.assert_equal(best["accuracy"][i], expected)
        expected = min((m["latency_ms"] for m in able), default=np.nan)
        np.testing.assert_equal(best["latency_ms"][i], expected)


def test_the_pareto_plot_joins_the_front_and_draws_the_bound() -> None:
    done = trials(20)
    figure = pareto_figure(done, GOALS, x="latency_ms", y="accuracy")
    names = [trace.name for trace in figure.data]
    assert names == ["trained", "Pareto front"]
    front = figure.data[1]
    assert list(front.x) == sorted(front.x)
    assert list(front.y) == sorted(front.y)
    assert "stage1: width 8, keep 0.5" in front.text[0]
    sized = pareto_figure(done, GOALS, x="weight_bytes", y="accuracy")
    assert [shape.x0 for shape in sized.layout.shapes] == [80]


def test_progress_shows_search_trials_in_finish_order() -> None:
    mixed = [*trials(6), *trials(3, Fidelity.DEPLOYED, seed=1)]
    figures = progress_figures(mixed, GOALS)
    assert list(figures)[1:] == ["best accuracy", "best latency (ms)"]
    assert all(len(figure.data[0].x) == 6 for figure in figures.values())


def test_decisions_are_lines_through_options_in_order() -> None:
    chosen: list[dict[str, Value]] = [
        {"width": 24, "op": "b", "fixed": 1},
        {"width": 8, "op": "a", "fixed": 1, "late": 2},
        {"width": 16, "op": "b", "fixed": 1, "late": 4},
    ]
    scores = ((0.9, 3.0), (0.5, 2.0), (0.4, 2.5))
    done = [
        Trial(i, Evaluate(Candidate(values, str(i)), Fidelity.TRAINED)).completed(
            {"accuracy": accuracy, "latency_ms": ms}
        )
        for i, (values, (accuracy, ms)) in enumerate(zip(chosen, scores, strict=True))
    ]
    figure = decisions_figure(done, Goals.parse(["accuracy", "latency_ms"]))
    assert figure is not None
    assert list(figure.layout.xaxis.ticktext) == ["width", "op", "late", "accuracy", "latency (ms)"]
    dominated, front, marks = figure.data
    assert dominated.y == (0.5, 1.0, 1.0, 0.0, 0.5, None)
    assert front.y[:6] == (1.0, 1.0, None, 1.0, 1.0, None) and len(front.y) == 12
    assert [t for x, t in zip(marks.x, marks.text, strict=True) if x == 0] == ["8", "16", "24"]
    assert decisions_figure([], GOALS) is None


def test_of_many_trials_an_even_share_is_drawn_and_all_of_the_front() -> None:
    figure = decisions_figure(trials(2000), GOALS)
    assert figure is not None
    others, front, _ = figure.data
    n_axes = len(figure.layout.xaxis.ticktext)
    assert 200 < len(others.x) / (n_axes + 1) <= N_LINES
    assert len(front.x) >= n_axes


def test_importances_show_the_largest_on_top() -> None:
    figure = importance_figure("accuracy", {"a": 0.7, "b": 0.2, "c": 0.1})
    assert list(figure.data[0].y) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [("latency_ms", "latency (ms)"), ("weight_bytes", "weight (bytes)"), ("accuracy", "accuracy")],
)
def test_labels_put_units_in_brackets(metric: str, said: str) -> None:
    assert label(metric) == said


def content(done: Sequence[Trial], title: str = "a job") -> ReportContent:
    return ReportContent(title, {"seed": "0"}, GOALS, done, done, {}, {})


def test_a_report_of_nothing_says_so() -> None:
    page = render_report(content([]))
    assert "No trial has completed yet" in page
    assert "Too few completed trials" in page


@pytest.mark.parametrize(
    ("effort", "said"), [(1.0, ""), (3.0**-2, " (1/9)"), (0.5, " (1/2)"), (1e-6, " (1e-06)")]
)
def test_effort_is_said_where_it_is_not_whole(effort: float, said: str) -> None:
    trial = Trial(0, Evaluate(Candidate({}, "0" * 16), Fidelity.TRAINED, effort))
    assert effort_share(trial) == said


def test_a_report_of_little_effort_alone_has_no_front_and_says_why() -> None:
    low = [
        Trial(t.number, replace(t.task, effort=1 / 9)).completed(t.metrics)
        for t in trials(12)
        if isinstance(t.task, Evaluate)
    ]
    page = render_report(content(low))
    assert "12 completed trials; no candidate had full effort yet." in page
    assert "No candidate scored yet." in page
    assert page.count("trained (1/9)") == 12
    whole = render_report(content([*low, *trials(13)[12:]]))
    assert "among 1 trained candidates" in whole


@pytest.mark.parametrize(
    ("narrowed", "said"), [(True, "left such options out"), (False, "went on trying them")]
)
def test_options_that_only_did_harm_are_listed(narrowed: bool, said: str) -> None:
    found = [("stage1.kernel", 5, "latency_ms", 0.0123, 14)]
    page = render_report(replace(content(trials(12)), harmful=found, narrowed=narrowed))
    assert "Options that only did harm" in page
    assert said in page
    assert all(text in page for text in ("stage1.kernel", "0.0123", "latency_ms"))
    assert "only did harm" not in render_report(content(trials(12)))


def test_a_report_shows_failures_and_escapes_what_users_wrote() -> None:
    nasty = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
    candidate = Candidate({"op": nasty}, "0" * 16)
    failed = Trial(3, Evaluate(candidate, Fidelity.TRAINED)).failed(nasty)
    done = Trial(4, Evaluate(candidate, Fidelity.TRAINED)).completed(
        {"accuracy": 0.5, "latency_ms": 0.1, "weight_bytes": 10.0}
    )
    page = render_report(content([failed, done], title=nasty))
    assert "<img" not in page.replace("&lt;img", "").split("<script>", 1)[0]
    assert "</script><script>alert(2)" not in page
    assert "1 completed trials, 1 failed" in page


@pytest.mark.parametrize(("collapsed", "rollbacks"), [(0.0, 0.0), (0.0, 2.0), (1.0, 0.0)])
def test_the_report_shows_a_learned_distribution_and_its_alarm(
    collapsed: float, rollbacks: float
) -> None:
    epoch = {
        "epoch": 1, "relaxed_accuracy": 0.9, "derived_accuracy": 0.4, "entropy": 0.7,
        "parameter_free_share": 0.6, "curvature": 2.5, "expected_costs": {"latency_ms": 0.2},
        "derived_costs": {"latency_ms": 0.1},
    }  # fmt: skip
    metrics = {
        "epochs": 1.0, "rollbacks": rollbacks, "parameter_free_share": 0.6, "collapsed": collapsed
    }  # fmt: skip
    learned = Trial(0, TrainShared("differentiable", 1)).completed(
        metrics, {"differentiable": {"history": [epoch, {**epoch, "epoch": 2}]}}
    )
    content = ReportContent("job", {}, GOALS, [learned], [learned], {}, {})
    page = render_report(content)
    assert "The learned distribution" in page
    assert "dominant eigenvalue" in page
    assert ("Collapsed: 60% of" in page) == bool(collapsed)
    assert ("Curvature grew 2 times" in page) == bool(rollbacks)


def kinds(trial: Trial, **of: str) -> Trial:
    told = {metric: {"kind": kind} for metric, kind in of.items()}
    return replace(trial, provenance={**told, "costs": {"kind": "computed"}})


def test_symbols_and_marks_tell_what_nobody_measured() -> None:
    first, second, third = trials(3)
    simulated = kinds(first, accuracy="simulated", latency_ms="measured")
    predicted = kinds(second, accuracy="simulated", latency_ms="predicted")
    measured = kinds(third, accuracy="measured", latency_ms="measured")
    mixed = [simulated, predicted, measured]
    figure = pareto_figure(mixed, GOALS, x="latency_ms", y="accuracy")
    symbols = {trace.name: trace.marker.symbol for trace in figure.data[:3]}
    names = ["trained, measured", "trained, predicted", "trained, simulated"]
    assert sorted(symbols) == names and len(set(symbols.values())) == 3
    said = next(trace.text[0] for trace in figure.data if trace.name == "trained, predicted")
    assert "latency (ms): ≈" in said and "accuracy: ~" in said and "weight (bytes): ≈" not in said
    page = render_report(content(mixed))
    assert "≈ predicted while the device was away" in page and ">≈" in page and ">~" in page
    assert "measured or computed" not in render_report(content([measured]))


def test_shared_weights_and_tau_over_time_are_in_the_report() -> None:
    history = [{"epoch": i, "largest_loss": 1.0, "student_loss": 2.0} for i in (1, 2)]
    trained = Trial(0, TrainShared("supernet", 2)).completed({}, {"supernet": {"history": history}})
    done = [trained, *trials(12)]
    quality = (np.zeros(2), np.zeros(2), 0.5)
    ranking = {"accuracy": [(10, float("nan")), (12, 0.4)]}
    whole = replace(content(done), predictions={"accuracy": quality}, ranking=ranking)
    page = render_report(whole)
    assert "The shared weights" in page and "largest candidate" in page
    assert "in hindsight" in page and '"search trials"' in page
    same = [{**epoch, "largest_loss": epoch["student_loss"]} for epoch in history]
    (line,) = supernet_figure(same).data
    assert line.name == "candidates drawn" and list(line.y) == [2.0, 2.0]
    assert "The shared weights" not in render_report(content(trials(12)))


def test_a_device_is_named_after_its_metric() -> None:
    assert label("latency_ms@pi") == "latency (ms) on pi"
