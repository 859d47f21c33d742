"""Gathering what a report shows, and writing it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dashboard.report import ReportContent, render_report
from nas.analysis import harmful, importances, predictor_quality, tau_over_time
from nas.core import EventKind, InvalidInputError, Job, Trial
from nas.problem import Problem
from nas.reuse import Reuse, reuse
from nas.workspace import Workspace, spec_of
from workers.machine import processor_name


def write_report(
    workspace: Workspace,
    job: Job,
    path: Path,
    problem: Problem | None = None,
    known: Reuse | None = None,
) -> Path:
    """Write the self-contained HTML report of `job` to `path`; returns it.

    `problem` and `known` (what the job reused) are found out where they are not given.

    Raises:
        InvalidInputError: `path` is a folder.
    """
    if path.is_dir():
        raise InvalidInputError("report", str(path), "a file name, such as report.html")
    problem = problem or workspace.problem(spec_of(job))
    known = reuse(workspace.store, job, problem) if known is None else known
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_report(_content(workspace, job, problem, known)))
    return path


def _content(workspace: Workspace, job: Job, problem: Problem, known: Reuse) -> ReportContent:
    events = workspace.store.trial_store(job.job_id).events()
    finished = [e.trial for e in events if e.kind is EventKind.FINISHED]
    trials = {e.trial.number: e.trial for e in events}
    quality = predictor_quality(problem, finished)
    return ReportContent(
        title=job.name,
        facts={
            **_facts(problem, job),
            "reused": "; ".join(known.said()) or "nothing",
            "wall time": f"{events[-1].at - events[0].at:.0f} s" if events else "none yet",
        },
        goals=problem.spec.goals,
        trials=[trials[number] for number in sorted(trials)],
        finished=finished,
        ranking=tau_over_time(problem, finished),
        predictions={m: (v.predicted, v.measured, v.tau) for m, v in quality.items()},
        importances=importances(problem, finished),
        harmful=_harmful(problem, finished),
        narrowed=problem.spec.strategy.options.get("narrowing") == 1,
    )


def _harmful(
    problem: Problem, trials: Sequence[Trial]
) -> list[tuple[str, object, str, float, int]]:
    names = [*(o.metric for o in problem.spec.goals.objectives), "constraints"]
    found = harmful(problem, trials)
    return [(h.decision, h.option, names[h.objective], h.harm, h.support) for h in found]


def _facts(problem: Problem, job: Job) -> dict[str, str]:
    spec, data = problem.spec, problem.dataset
    n_images = f"{len(data.x_train)} train, {len(data.x_val)} validation, {len(data.x_test)} test"
    return {
        "job": job.job_id,
        "submitted": datetime.fromtimestamp(job.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "data": f"{data.name} {'x'.join(map(str, data.input_shape))}: {n_images}",
        "space": f"{spec.space.name}, {problem.family.space.size:,} candidates",
        "strategy": spec.strategy.name,
        "objectives": ", ".join(spec.objectives),
        "constraints": ", ".join(spec.constraints) or "none",
        "budget": f"{spec.budget.trials} trials, {spec.budget.finalists} finalists",
        "seed": str(spec.seed),
        "processor": processor_name(),
    }
