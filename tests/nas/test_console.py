"""What the terminal says of a search under way."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from nas import console
from nas.core import (
    Candidate,
    Evaluate,
    Event,
    EventKind,
    Fidelity,
    Goals,
    Job,
    JobState,
    Trial,
)
from nas.front import Front
from nas.spec import JobSpec

GOALS = Goals.parse(["accuracy"], ["weight_bytes<=100"])
SPEC = JobSpec.parse({"objectives": ["accuracy"], "budget": {"trials": 4, "finalists": 2}})


def running(
    number: int, effort: float = 1.0, fidelity: Fidelity = Fidelity.TRAINED, key: int = 0
) -> Trial:
    return Trial(number, Evaluate(Candidate({"d": key}, f"{key:016x}"), fidelity, effort))


def done(number: int, effort: float = 1.0, weight_bytes: float = 50.0) -> Trial:
    metrics = {"accuracy": 0.5 + number / 100, "weight_bytes": weight_bytes}
    return running(number, effort).completed(metrics, seconds=2.0)


def shown_bars() -> tuple[console._Shown, Progress]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bars = Progress(*columns, console=Console(file=io.StringIO()))
    return console._Shown(bars, SPEC), bars


def finish(shown: console._Shown, trial: Trial) -> str:
    shown(Event(1, EventKind.STARTED, Trial(trial.number, trial.task), 0.0))
    return shown(Event(2, EventKind.FINISHED, trial, 1.0))


def test_little_effort_moves_the_bar_as_far_as_it_costs() -> None:
    shown, bars = shown_bars()
    search, finalists = bars.tasks
    for number in range(9):
        finish(shown, done(number, 1 / 9))
    assert search.completed == 1.0  # nine ninths, not 0.999…
    finish(shown, running(9, 1 / 3).failed("died"))
    assert search.completed == pytest.approx(4 / 3, abs=1e-6)
    finish(shown, done(10))
    assert search.completed == pytest.approx(7 / 3, abs=1e-6) and search.total == 4
    shown(Event(3, EventKind.STARTED, running(11, fidelity=Fidelity.DEPLOYED), 2.0))
    assert search.total == search.completed and not finalists.completed


def test_lines_of_trials_tell_little_effort() -> None:
    shown, _ = shown_bars()
    started = shown(Event(1, EventKind.STARTED, running(0, 1 / 9), 0.0))
    assert started == "trial 0 started: trained (1/9)"
    said = shown(Event(2, EventKind.FINISHED, done(0, 1 / 9), 1.0))
    assert said == "trial 0 completed (1/9) in 2.0 s: accuracy 0.5"
    assert finish(shown, done(1)) == "trial 1 completed in 2.0 s: accuracy 0.51"


def test_the_line_of_the_best_says_why_there_is_none() -> None:
    line = console.best_line
    assert line([], GOALS, Fidelity.TRAINED) == "no candidate has completed yet"
    failed = running(0).failed("died")
    assert line([failed], GOALS, Fidelity.TRAINED) == "no candidate has completed yet"
    hints = [failed, done(1, 1 / 9), done(2, 1 / 3)]
    said = "no candidate has completed with full effort yet, 2 trials with less"
    assert line(hints, GOALS, Fidelity.TRAINED) == line(hints, GOALS, None) == said
    heavy = done(3, weight_bytes=200.0)
    missed = "no candidate meets the constraints yet"
    assert line([*hints, heavy], GOALS, Fidelity.TRAINED) == missed
    assert line([*hints, heavy, done(4)], GOALS, None).startswith("front of 1")
    shown, _ = shown_bars()
    finish(shown, done(0, 1 / 9))
    assert "1 trials with less" in str(shown.best)


def test_a_front_of_little_effort_alone_says_so(tmp_path: Path) -> None:
    job = Job("0123", "search", SPEC.to_json(), JobState.RUNNING, "", 0.0)
    assert "2 trials with less" in str(
        console.front_table(Front.of(job, GOALS, [done(0, 1 / 9), done(1, 1 / 9)], tmp_path))
    )
    assert "none of 1 completed trials meets weight_bytes<=100" in str(
        console.front_table(Front.of(job, GOALS, [done(0, weight_bytes=200.0)], tmp_path))
    )
    assert "no candidate has completed yet" in str(
        console.front_table(Front.of(job, GOALS, [], tmp_path))
    )


def test_a_front_marks_what_nobody_measured(tmp_path: Path) -> None:
    job = Job("0123", "search", SPEC.to_json(), JobState.RUNNING, "", 0.0)

    def table(kind: str) -> str:
        trial = replace(done(0), provenance={"accuracy": {"kind": kind}})
        shown = Console(width=120)
        with shown.capture() as said:
            shown.print(console.front_table(Front.of(job, GOALS, [trial], tmp_path)))
        return " ".join(said.get().split())

    assert "~0.5" in table("simulated") and "~ simulated" in table("simulated")
    assert "~" not in table("measured")
