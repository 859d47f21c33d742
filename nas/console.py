"""What the terminal shows: progress, tables, summaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from nas.core import Event, EventKind, Fidelity, Goals, Job, Trial, front_of, hypervolume
from nas.core.goals import columns_of
from nas.core.trial import TrialState
from nas.engine import Listener
from nas.forecast import Preview
from nas.front import Front
from nas.spec import JobSpec

ALSO_SHOWN = ("test_accuracy", "latency_p90_ms", "weight_bytes", "file_bytes")


@contextmanager
def progress(spec: JobSpec, enabled: bool = True) -> Iterator[Listener | None]:
    """A listener that draws two bars (search, finalists) with best value and hypervolume."""
    if not enabled:
        yield None
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[best]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars, spec)


class _Bars:
    """Turns events into progress."""

    def __init__(self, bars: Progress, spec: JobSpec) -> None:
        self._bars = bars
        self._goals = spec.goals
        self._search = bars.add_task("search", total=spec.budget.trials, best="")
        self._final = bars.add_task("finalists", total=spec.budget.finalists, best="")
        self._done: list[Trial] = []
        self._n_failed = 0

    def __call__(self, event: Event) -> None:
        final = event.trial.fidelity is Fidelity.DEPLOYED
        if event.kind is EventKind.STARTED:
            if final:
                self._bars.update(self._search, total=self._completed(self._search))
            return
        self._n_failed += event.trial.state is TrialState.FAILED
        self._done.append(event.trial)
        best = best_line(self._done, self._goals, event.trial.fidelity)
        failed = f"  failed {self._n_failed}" if self._n_failed else ""
        self._bars.update(self._final if final else self._search, advance=1, best=best + failed)

    def _completed(self, task: TaskID) -> float:
        return next(t.completed for t in self._bars.tasks if t.id == task)


def best_line(trials: Sequence[Trial], goals: Goals, fidelity: Fidelity | None) -> str:
    """`best accuracy 0.982 · latency_ms 0.021 · hypervolume 0.93` of the front so far.

    The hypervolume is taken between the trials' best and worst values, as a share of that box.
    """
    members = front_of(trials, goals, fidelity).trials
    if not members:
        return "nothing feasible yet"
    losses = goals.losses(columns_of([t.metrics for t in members], goals.metrics))
    best = losses.min(axis=0)
    at_best = goals.losses({o.metric: best[j : j + 1] for j, o in enumerate(goals.objectives)})
    parts = [f"{o.metric} {at_best[0, j]:.4g}" for j, o in enumerate(goals.objectives)]
    everyone = [t for t in trials if t.state is TrialState.COMPLETED and t.fidelity is fidelity]
    spread = goals.losses(columns_of([t.metrics for t in everyone], goals.metrics))
    span = np.where(np.ptp(spread, axis=0) > 0, np.ptp(spread, axis=0), 1.0)
    share = hypervolume((losses - spread.min(axis=0)) / span, np.ones(losses.shape[1]))
    return f"best {' · '.join(parts)} · hypervolume {share:.3f} · front {len(members)}"


def front_table(front: Front) -> Table:
    """The front, one row a model."""
    metrics = [*front.goals.metrics, *ALSO_SHOWN]
    shown = [m for m in dict.fromkeys(metrics) if all(m in x.metrics for x in front)]
    table = Table(title=f"Pareto front of {front.job.name} ({front.job.job_id})")
    for name in ("#", "trial", *shown, "bits", "keep"):
        table.add_column(name, justify="left" if name in ("bits", "keep") else "right")
    for i, model in enumerate(front, 1):
        values = model.candidate.values
        keeps = [f"{v:g}" for k, v in values.items() if k.endswith(".keep")]
        asked = model.trial.provenance.get("latency_ms", {}).get("asked", {})
        cells = [
            f"{model.metrics[m]:,.4g}"
            if abs(model.metrics[m]) < 1000
            else f"{model.metrics[m]:,.0f}"
            for m in shown
        ]
        table.add_row(
            str(i), str(model.trial.number), *cells, " ".join(asked.values()), " ".join(keeps)
        )
    return table


def jobs_table(jobs: Sequence[Job]) -> Table:
    """All jobs, newest first."""
    table = Table(title="Jobs")
    for name in ("job", "name", "state", "data", "strategy", "trials", "message"):
        table.add_column(name)
    for job in jobs:
        spec = JobSpec.parse(job.spec)
        trials = str(spec.budget.trials)
        table.add_row(
            job.job_id, job.name, job.state, spec.data, spec.strategy.name, trials, job.message
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
