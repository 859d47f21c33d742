"""Commands that compare strategies, and build a table to compare them on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nas.core import InvalidInputError
from nas.options import parsed

Space = Annotated[str, typer.Option(help="nasbench201, nasbench101, or table:PATH.npz.")]
Objectives = Annotated[
    list[str], typer.Option("--objective", help="metric, metric:min or metric:max.")
]
Names = Annotated[
    str, typer.Option(help="Names, joined by commas; the first is what others are tested with.")
]
Constraints = Annotated[list[str] | None, typer.Option("--constraint", help="metric<=number.")]
StrategyOptions = Annotated[
    list[str] | None,
    typer.Option("--strategy-option", help='"STRATEGY.NAME=VALUE". Repeatable.'),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="Value to reach (with several objectives the share of the true front's "
        "hypervolume), or best for the table's best."
    ),
]
Reference = Annotated[
    list[str] | None,
    typer.Option(help='Worst value that counts in the hypervolume, "METRIC=VALUE". Repeatable.'),
]


def benchmark(
    space: Space,
    objectives: Objectives,
    strategies: Names = "predictor-guided,regularized-evolution,random",
    constraints: Constraints = None,
    strategy_options: StrategyOptions = None,
    seeds: Annotated[int, typer.Option(help="Runs of each strategy.")] = 20,
    budget: Annotated[int, typer.Option(help="Queries of a run.")] = 300,
    target: Target = None,
    reference: Reference = None,
    parallel: Annotated[int, typer.Option(help="Queries under way at once.")] = 1,
    workers: Annotated[int | None, typer.Option(help="Runs at once; default: one a CPU.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: start one.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File for runs and summaries.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file for the curves.")] = None,
) -> None:
    """Compare strategies on a tabular space, same budgets, run in parallel on Ray."""
    from nas.benchmarks.comparison import compare  # with it comes torch, a second to import
    from nas.benchmarks.runs import BenchmarkSpec

    spec = BenchmarkSpec(
        space=space,
        objectives=tuple(objectives),
        constraints=tuple(constraints or ()),
        strategies=tuple(name.strip() for name in strategies.split(",") if name.strip()),
        seeds=seeds,
        budget=budget,
        target=target,
        parallel=parallel,
        options=_by_strategy(strategy_options or []),
        reference=_numbers("reference", reference or []),
    )
    compare(spec, workers, address, json_file, plot)


def micro_benchmark(
    out: Annotated[Path, typer.Option(help="File of the table, .npz.")],
    seeds: Annotated[int, typer.Option(help="Trainings of each network.")] = 3,
    limit: Annotated[int | None, typer.Option(help="Only so many networks, for a try.")] = None,
    workers: Annotated[int | None, typer.Option(help="At once; default: one a CPU.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster; default: start one.")] = None,
) -> None:
    """Train every network of a small space on digits; the table is a space like any other.

    Results are kept beside the table as they come (.jsonl), so that a stopped build goes on.
    """
    from nas.benchmarks.micro import write_benchmark

    write_benchmark(out, seeds, limit, workers, address)


def _numbers(field: str, texts: Sequence[str]) -> dict[str, float]:
    values = parsed(field, texts)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidInputError(f"{field}.{name}", value, "a number")
    return values


def _by_strategy(texts: Sequence[str]) -> dict[str, dict[str, object]]:
    options: dict[str, dict[str, object]] = {}
    for text in texts:
        name, dot, rest = text.partition(".")
        if not dot or "=" not in rest:
            raise InvalidInputError("strategy-option", text, '"STRATEGY.NAME=VALUE"')
        options.setdefault(name, {}).update(parsed("strategy-option", [rest]))
    return options
