from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.benchmarks.micro import Build, columns
from nas.benchmarks.runs import BenchmarkSpec, Run
from nas.benchmarks.statistics import curves, interval, summaries
from nas.cli import app
from nas.core import Decision, InvalidInputError, SearchSpace, UnknownNameError
from searchspaces.tabular import read_table, write_table

SPACE = SearchSpace(tuple(Decision(f"d{i}", tuple(range(4))) for i in range(4)))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 candidates: a quality with interactions, and a cost."""
    rows = SPACE.rows()
    quality = rows.sum(axis=1) + 2.0 * (rows[:, 0] == rows[:, 1]) + 0.01 * rows[:, 3]
    cost = 1.0 + rows[:, 0] ** 2 + rows[:, 2]
    path = tmp_path_factory.mktemp("table") / "t.npz"
    write_table(path, SPACE, rows, {"quality": quality, "cost": cost.astype(float)})
    return path


def spec_of(table: Path, **changes: object) -> BenchmarkSpec:
    settings = {"objectives": ("quality:max",), "strategies": ("random",), "seeds": 2, "budget": 30}
    return BenchmarkSpec(space=f"table:{table}", **{**settings, **changes})


def test_traces_are_the_best_so_far_and_the_target_is_found(table: Path) -> None:
    contest = spec_of(table, target="best", budget=256).check(table.parent)
    run = contest.run("random", 0)
    assert len(run.trace) == 256 and list(run.trace) == sorted(run.trace)
    best = read_table(table).columns["quality"].max()
    assert run.trace[-1] == best
    assert run.queries_to_target == run.trace.index(best) + 1
    assert contest.run("random", 0).trace == run.trace
    lower = spec_of(table, objectives=("cost",), target="3").check(table.parent)
    found = lower.run("random", 1)
    assert found.trace[found.queries_to_target - 1] <= 3.0
    assert list(found.trace) == sorted(found.trace, reverse=True)


def test_no_candidate_is_queried_twice_and_an_exhausted_space_ends(table: Path) -> None:
    contest = spec_of(table, budget=400, parallel=3).check(table.parent)
    assert len(contest.run("regularized-evolution", 0).trace) == 256


def test_hypervolume_is_a_share_of_the_true_front(table: Path) -> None:
    contest = spec_of(table, objectives=("quality:max", "cost"), budget=256).check(table.parent)
    run = contest.run("nsga2", 0)
    assert run.trace[-1] == pytest.approx(1.0)
    assert all(a <= b for a, b in zip(run.trace, run.trace[1:], strict=False))
    assert "hypervolume" in run.to_json()


def test_constraints_count(table: Path) -> None:
    spec = spec_of(table, constraints=("cost<=4",), target="best", budget=256)
    contest = spec.check(table.parent)
    data = read_table(table)
    assert contest.target == data.columns["quality"][data.columns["cost"] <= 4].max()
    assert contest.run("predictor-guided", 0).queries_to_target < 80


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"seeds": 0}, InvalidInputError, "seeds"),
        ({"budget": 0}, InvalidInputError, "budget"),
        ({"strategies": ()}, InvalidInputError, "strategies"),
        ({"strategies": ("rndom",)}, UnknownNameError, "did you mean 'random'"),
        ({"objectives": ("qality:max",)}, UnknownNameError, "did you mean 'quality'"),
        ({"target": "high"}, InvalidInputError, "a number, or best"),
        ({"constraints": ("cost<=0",)}, InvalidInputError, "one the table can meet"),
        ({"options": {"random": {"x": 1}}}, UnknownNameError, "random"),
        ({"options": {"nsga2": {}}}, UnknownNameError, "nsga2"),
        ({"reference": {"cost": 1.0}}, UnknownNameError, "reference"),
    ],
)
def test_wrong_input_is_named_before_any_run(
    table: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spec_of(table, **changes).check(table.parent)


def test_summaries_rank_and_test_in_pairs() -> None:
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(12):
        for name, gain in (("good", 2.0), ("bad", 0.0)):
            last = gain + rng.random()
            runs.append(Run(name, seed, [0.0, last], 5 if gain else None, 0.1, False))
    good, bad = summaries(runs, larger_is_better=True)
    assert (good.rank, bad.rank) == (1.0, 2.0)
    assert good.p_value is None and bad.p_value < 0.01
    assert good.queries[1] == 5 and bad.queries[1] == np.inf and bad.reached == 0.0
    assert summaries(runs, larger_is_better=False)[0].rank == 2.0
    mean, low, high = interval(curves(runs, "good")[:, -1])
    assert low < mean < high and 2.0 < mean < 3.0


def test_the_command_writes_the_promised_json_and_a_page(table: Path, tmp_path: Path) -> None:
    arguments = ["benchmark", "--space", f"table:{table}", "--objective", "quality:max"]
    arguments += ["--strategies", "random,regularized-evolution", "--seeds", "3", "--budget", "20"]
    arguments += ["--target", "best", "--workers", "1", "--json", str(tmp_path / "out.json")]
    arguments += ["--strategy-option", "regularized-evolution.population=8"]
    found = CliRunner().invoke(app, [*arguments, "--plot", str(tmp_path / "out.html")])
    assert found.exit_code == 0, found.output
    body = json.loads((tmp_path / "out.json").read_text())
    assert len(body["runs"]) == 6
    for run in body["runs"]:
        assert {"strategy", "seed", "queries_to_target", "best", "trace", "ask_seconds"} <= set(run)
        assert len(run["trace"]) == 20 and run["best"] == run["trace"][-1]
    page = (tmp_path / "out.html").read_text()
    assert "regularized-evolution" in page and "<script src" not in page
    arguments[4] = "speed:min"
    wrong = CliRunner().invoke(app, arguments)
    assert isinstance(wrong.exception, UnknownNameError)


def test_runs_are_the_same_on_ray(table: Path, ray_cluster: None, tmp_path: Path) -> None:
    arguments = ["benchmark", "--space", f"table:{table}", "--objective", "quality:max"]
    arguments += ["--strategies", "random", "--seeds", "3", "--budget", "10"]
    traces = []
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.json"
        found = CliRunner().invoke(app, [*arguments, "--workers", workers, "--json", str(out)])
        assert found.exit_code == 0, found.output
        traces.append([run["trace"] for run in json.loads(out.read_text())["runs"]])
    assert traces[0] == traces[1]


def test_the_micro_benchmark_is_a_table_like_any_other(tmp_path: Path) -> None:
    arguments = ["micro-benchmark", "--out", str(tmp_path / "micro.npz")]
    arguments += ["--seeds", "2", "--limit", "2", "--workers", "1"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    table = read_table(tmp_path / "micro.npz")
    assert len(table.genotypes) == 2 and len(table.space) == len(Build().space)
    assert {"accuracy", "accuracy_3_epochs", "accuracy_seed1", "latency_ms"} <= set(table.metrics)
    assert "weight_bytes" in table.free and "accuracy" not in table.free
    lines = (tmp_path / "micro.jsonl").read_text().splitlines()
    assert len(lines) == 4
    (tmp_path / "micro.jsonl").write_text("\n".join([*lines[:3], lines[3][:20]]))
    again = CliRunner().invoke(app, arguments)  # a build that was killed goes on
    assert again.exit_code == 0, again.output
    restored = read_table(tmp_path / "micro.npz")
    assert (restored.columns["accuracy"] == table.columns["accuracy"]).all()


def test_micro_columns_are_means_over_seeds() -> None:
    results = [
        {"row": r, "seed": s, "accuracy": r + s / 10, "latency_ms": 1.0 + s}
        for r in range(2)
        for s in range(3)
    ]
    table = columns(results, 2, 3)
    assert table["accuracy"] == pytest.approx([0.1, 1.1])
    assert table["latency_ms"] == pytest.approx([2.0, 2.0])
    assert Build().space.size == 320
