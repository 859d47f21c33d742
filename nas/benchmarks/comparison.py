"""Strategies compared: all runs, the tables, the plot and the JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dashboard.benchmark import benchmark_page
from nas.benchmarks.runs import BenchmarkSpec, Contest, Run
from nas.benchmarks.statistics import Summary, curves, interval, summaries, to_json
from nas.core import Direction
from nas.options import check_writable
from workers.datasets import data_folder

CHECKPOINTS = (50, 100, 250, 500, 1000)
PIPE_WIDTH = 160
"""Columns of what is printed to a file: no cell is cut there."""


def compare(
    spec: BenchmarkSpec,
    workers: int | None,
    address: str | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Check everything, run, and show what came out.

    Args:
        spec: what is compared.
        workers: runs at once; None for one a CPU.
        address: of a Ray cluster; None starts one.
        json_file: for runs and summaries; None for none.
        plot: HTML file for the curves; None for none.

    Raises:
        InvalidInputError: anything that cannot work.
    """
    for field, path in (("json", json_file), ("plot", plot)):
        if path is not None:
            check_writable(field, path)
    folder = data_folder()
    contest = spec.check(folder)
    pairs = [(name, seed) for seed in range(spec.seeds) for name in spec.strategies]
    runs = _run(_Job(spec, folder), pairs, workers, address)
    better = contest.several or contest.goals.objectives[0].direction is Direction.MAXIMIZE
    found = summaries(runs, better)
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    console.print(summary_table(contest, found))
    console.print(curve_table(contest, runs))
    for path in _written(contest, runs, found, json_file, plot):
        console.print(f"written: {path}")


def _written(
    contest: Contest,
    runs: Sequence[Run],
    found: Sequence[Summary],
    json_file: Path | None,
    plot: Path | None,
) -> list[Path]:
    """Write the files asked for."""
    spec = contest.spec
    if json_file is not None:
        json_file.write_text(json.dumps(to_json(runs, found, asdict(spec)), indent=1) + "\n")
    if plot is not None:
        series = {name: curves(runs, name) for name in spec.strategies}
        plot.write_text(benchmark_page(f"Benchmark {spec.space}", measure(contest), series))
    return [path for path in (json_file, plot) if path is not None]


@dataclass(frozen=True)
class _Job:
    """Runs one pair of strategy and seed of a checked spec, in any process."""

    spec: BenchmarkSpec
    folder: Path

    def __call__(self, pair: tuple[str, int]) -> Run:
        return self.spec.contest(self.folder).run(*pair)


def _run(
    job: _Job, pairs: Sequence[tuple[str, int]], workers: int | None, address: str | None
) -> list[Run]:
    """Every run, in the order of `pairs`."""
    from workers.executors.mapping import each_done  # Ray takes a second to import

    results = each_done(job, pairs, workers, address)
    place = {pair: i for i, pair in enumerate(pairs)}
    runs: list[Run | None] = [None] * len(pairs)
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=len(pairs))
        for run in results:
            runs[place[run.strategy, run.seed]] = run
            bar.advance(task)
    return [run for run in runs if run is not None]


def measure(contest: Contest) -> str:
    """What the curves show, for people."""
    if contest.several:
        return "share of the true front's hypervolume"
    return f"best {contest.goals.objectives[0].metric}"


def summary_table(contest: Contest, found: Sequence[Summary]) -> Table:
    """Strategies, best rank first."""
    spec = contest.spec
    table = Table(title=f"{spec.space}: {spec.seeds} seeds, {spec.budget} queries")
    columns = ["strategy", "mean rank", f"{measure(contest)}, median (quartiles)", "median regret"]
    if contest.target is not None:
        columns += [f"queries to {contest.target:.6g}, median (quartiles)", "reached"]
    columns += [f"p against {found[0].strategy}", "ms an ask"]
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left")
    for s in sorted(found, key=lambda s: s.rank):
        cells = [s.strategy, f"{s.rank:.2f}", _spread(s.final, ".5g"), f"{s.regret:.3g}"]
        if contest.target is not None:
            cells += [_spread(s.queries, "g"), f"{100 * s.reached:.0f} %"]
        p_value = "" if s.p_value is None else f"{s.p_value:.2g}"
        table.add_row(*cells, p_value, f"{1000 * s.ask_seconds:.1f}")
    return table


def curve_table(contest: Contest, runs: Sequence[Run]) -> Table:
    """Mean and 95 % bootstrap interval at a few numbers of queries."""
    budget = contest.spec.budget
    shown = [n for n in CHECKPOINTS if n < budget] + [budget]
    table = Table(title=f"{measure(contest)}: mean, 95 % interval")
    table.add_column("strategy")
    for n in shown:
        table.add_column(f"{n} queries", justify="right")
    for name in contest.spec.strategies:
        values = curves(runs, name)
        cells = []
        for n in shown:
            mean, low, high = interval(values[:, min(n, values.shape[1]) - 1])
            cells.append("-" if np.isnan(mean) else f"{mean:.5g} ({low:.5g} to {high:.5g})")
        table.add_row(name, *cells)
    return table


def _spread(values: tuple[float, float, float], form: str) -> str:
    low, middle, high = ("never" if np.isinf(v) else f"{v:{form}}" for v in values)
    return f"{middle} ({low} to {high})"
