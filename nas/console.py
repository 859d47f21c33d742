"""What the terminal shows: progress, tables, summaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dashboard.figures import label, legend, marked
from dashboard.report import effort_share
from nas.core import (
    Event,
    EventKind,
    Fidelity,
    Goals,
    Job,
    TrainShared,
    Trial,
    standing_of,
)
from nas.core.trial import TrialState
from nas.engine import Listener
from nas.spec import N_PIECES, JobSpec

if TYPE_CHECKING:
    from nas.forecast import Preview
    from nas.front import Front, Model

ALSO_SHOWN = ("test_accuracy", "weight_bytes")


@contextmanager
def progress(spec: JobSpec, enabled: bool = True) -> Iterator[Listener | None]:
    """A listener that draws two bars (search, finalists) and a line of the best so far.

    Where standard error is no terminal, it prints a line per finished trial instead.
    """
    if not enabled:
        yield None
        return
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]left"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
    )
    shown = _Shown(bars, spec)
    if not console.is_terminal:
        yield lambda event: console.print(shown(event), highlight=False, soft_wrap=True)
        return
    with Live(Group(bars, shown.best), console=console, refresh_per_second=4) as live:

        def listen(event: Event) -> None:
            shown(event)
            live.update(Group(bars, shown.best))

        yield listen


class _Shown:
    """Turns events into bars, the line of the best so far, and a line per trial."""

    def __init__(self, bars: Progress, spec: JobSpec) -> None:
        self.best = Text()
        self._bars = bars
        self._goals = spec.goals
        self._done: list[Trial] = []
        self._n_failed = 0
        totals = {"search": spec.budget.trials, "finalists": spec.budget.finalists}
        if spec.supernet is not None:
            totals = {"supernet": N_PIECES, **totals}
        if spec.differentiable is not None:
            totals = {"differentiable": N_PIECES, **totals}
        self._tasks = {
            name: bars.add_task(name, total=total, note="", start=i == 0)
            for i, (name, total) in enumerate(totals.items())
        }
        self._spent = dict.fromkeys(totals, 0.0)

    def __call__(self, event: Event) -> str:
        trial = event.trial
        name = _bar_of(trial)
        if event.kind is EventKind.STARTED:
            self._bars.start_task(self._tasks[name])
            for earlier in takewhile(name.__ne__, self._tasks):  # they had fewer than planned
                self._bars.update(self._tasks[earlier], total=self._whole(earlier))
            return f"trial {trial.number} started: {trial.fidelity or name}{effort_share(trial)}"
        self._done.append(trial)
        self._n_failed += trial.state is TrialState.FAILED
        note = f"{self._n_failed} failed" if self._n_failed else ""
        self._spent[name] += trial.effort
        self._bars.update(self._tasks[name], completed=self._whole(name), note=note)
        if trial.candidate is not None:
            self.best = Text(best_line(self._done, self._goals, trial.fidelity))
        outcome = trial.error or ", ".join(
            f"{m} {value:.4g}"
            for m, value in trial.metrics.items()
            if trial.candidate is None or m in self._goals.metrics
        )
        if trial.metrics.get("collapsed"):
            outcome = f"COLLAPSED: most operations have no weights; {outcome}"
        state = f"{trial.state}{effort_share(trial)}"
        return f"trial {trial.number} {state} in {trial.seconds:.1f} s: {outcome}"

    def _whole(self, name: str) -> float:
        """Trials' worth of effort of a bar so far; nine ninths are one."""
        return round(self._spent[name], 6)


def _bar_of(trial: Trial) -> str:
    if isinstance(trial.task, TrainShared):
        return trial.task.method
    return "finalists" if trial.fidelity is Fidelity.DEPLOYED else "search"


def best_line(trials: Sequence[Trial], goals: Goals, fidelity: Fidelity | None) -> str:
    """`front of 5, hypervolume 0.93; best accuracy 0.982, latency_ms 0.021` so far.

    The hypervolume is taken between the trials' best and worst values, as a share of that box.
    Where there is no front, it says why.
    """
    found = standing_of(trials, goals, fidelity)
    if not found.n_front:
        same = [t for t in trials if fidelity in (None, t.fidelity)]
        return _unscored(same) or "no candidate meets the constraints yet"
    parts = [f"{metric} {value:.4g}" for metric, value in found.best.items()]
    share = f"hypervolume {found.hypervolume:.3f}"
    return f"front of {found.n_front}, {share}; best {', '.join(parts)}"


def _unscored(trials: Sequence[Trial]) -> str:
    """Why there is no score at all; nothing where there is one."""
    if any(t.scores() for t in trials):
        return ""
    hints = sum(t.state is TrialState.COMPLETED and t.effort < 1.0 for t in trials)
    return (
        f"no candidate has completed with full effort yet, {hints} trials with less"
        if hints
        else "no candidate has completed yet"
    )


def front_table(front: Front) -> Table | str:
    """The front, one row a model; a sentence where there is none."""
    if not front:
        done = sum(t.scores() for t in front.trials)
        limits = ", ".join(str(c) for c in front.goals.constraints)
        missed = f"none of {done} completed trials meets {limits}: loosen it or search longer"
        return _unscored(front.trials) or missed
    metrics = [*front.goals.metrics, *ALSO_SHOWN]
    shown = [m for m in dict.fromkeys(metrics) if all(m in x.metrics for x in front)]
    keeps = [_keeps(model) for model in front]
    kinds = legend(model.trial.kind(m) for m in shown for model in front)
    caption = "; ".join(filter(None, ("bits: weights/activations per stage", kinds)))
    table = Table(
        title=f"Pareto front of {escape(front.job.name)} ({front.job.job_id})",
        caption=f"{caption}; keep: channels left per stage" if any(keeps) else caption,
    )
    for name in ("#", *map(label, shown)):
        table.add_column(name, justify="right", min_width=min(8, len(name)))
    table.add_column("bits", no_wrap=True)
    if any(keeps):
        table.add_column("keep", no_wrap=True)
    for i, (model, keep) in enumerate(zip(front, keeps, strict=True), 1):
        cells = [marked(model.trial, m, _number(model.metrics[m])) for m in shown]
        table.add_row(str(i), *cells, " ".join(_bits(model)), *([keep] if any(keeps) else []))
    return table


def _keeps(model: Model) -> str:
    """Share of channels left per stage; empty where nothing is pruned so."""
    values = model.candidate.values.items()
    return " ".join(f"{v:g}".removeprefix("0") for k, v in values if k.endswith(".keep"))


def _bits(model: Model) -> list[str]:
    """`8/4` per stage, `32` for a float one; once where all stages are alike."""
    asked = model.trial.provenance.get("latency_ms", {}).get("asked", {})
    stages = [bits.removeprefix("w").replace("a", "/") for bits in asked.values()]
    stages = ["32" if bits == "32/32" else bits for bits in stages]
    return stages[:1] if len(set(stages)) == 1 else stages


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def jobs_table(jobs: Sequence[Job]) -> Table:
    """All jobs, newest first."""
    table = Table(title="Jobs")
    for name in ("job", "name", "state", "data", "strategy", "trials", "message"):
        table.add_column(name, no_wrap=name == "job")
    for job in jobs:
        spec = JobSpec.parse(job.spec)
        trials = str(spec.budget.trials)
        table.add_row(
            *map(escape, (job.job_id, job.name, job.state, spec.data, spec.strategy.name)),
            trials,
            escape(job.message),
        )
    return table


def preview_table(found: Preview) -> Table:
    """What is known before the job runs."""
    table = Table(title="Preview", show_header=False)
    table.add_row("candidates in the space", f"{found.n_candidates:,}")
    for name, (low, high) in found.cost_ranges.items():
        table.add_row(f"range of {name}", f"{low:,.0f} to {high:,.0f}")
    table.add_row("meet the cost constraints", f"{found.feasible_share:.1%} of sampled candidates")
    for constraint, share in sorted(found.ruled_out.items(), key=lambda kv: -kv[1]):
        table.add_row(f"ruled out by {constraint}", f"{share:.1%}")
    table.add_row("fastest latency to expect", f"{found.latency_floor_ms:.3g} ms")
    table.add_row("one search trial", f"about {found.trial_seconds:.1f} s")
    minutes = found.job_seconds / 60
    table.add_row("the whole job", f"about {minutes:.1f} min with {found.n_workers} workers")
    return table
