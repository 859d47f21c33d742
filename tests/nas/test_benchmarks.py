from __future__ import annotations

import json
import math
import re
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nas.benchmarks import micro
from nas.benchmarks.micro import Build, append_log, columns, read_log
from nas.benchmarks.runs import BenchmarkSpec, Contest, Run
from nas.benchmarks.statistics import curves, interval, summaries
from nas.cli import app
from nas.core import Decision, InvalidInputError, SearchSpace, UnknownNameError
from predictors.validation import kendall_tau
from searchspaces.tabular import read_table, write_table
from workers.executors import mapping

BOTH = ("quality:max", "cost")
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
        ({"strategies": ("random", "nsga2", "random")}, InvalidInputError, "only once"),
        ({"options": {"random": {"rungs": 2}}}, InvalidInputError, "rungs: .* no efforts"),
        (
            {
                "strategies": ("predictor-guided",),
                "options": {"predictor-guided": {"predictor": "graph"}},
            },
            InvalidInputError,
            "strategy.options.predictor: 'graph' .* cells",
        ),
        ({"target": "nan"}, InvalidInputError, "target.*a number, or best"),
        ({"target": "-inf"}, InvalidInputError, "target.*a number, or best"),
        ({"target": "1.01", "objectives": BOTH}, InvalidInputError, "target.*at most 1"),
        ({"target": "0", "objectives": BOTH}, InvalidInputError, "target.*above 0"),
        ({"target": "nan", "objectives": BOTH}, InvalidInputError, "target"),
        ({"reference": {"quality": 0.0}}, InvalidInputError, "reference.*one objective"),
        ({"reference": {"speed": 1}, "objectives": BOTH}, UnknownNameError, "known: cost, quality"),
        ({"reference": {"cost": math.inf}, "objectives": BOTH}, InvalidInputError, "finite number"),
        ({"reference": {"cost": 1.0}, "objectives": BOTH}, InvalidInputError, "worse than some"),
    ],
)
def test_wrong_input_is_named_before_any_run(
    table: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        spec_of(table, **changes).check(table.parent)


def test_a_reference_moves_what_counts_and_a_share_may_be_the_target(table: Path) -> None:
    spec = spec_of(table, objectives=BOTH, reference={"quality": 8.0}, target="0.5")
    score = spec.check(table.parent).score()
    assert score({"quality": 8.0, "cost": 1.0}) == pytest.approx(0.0, abs=1e-6)
    assert score({"quality": 12.0, "cost": 5.0}) > 0
    assert (
        spec_of(table, objectives=BOTH).check(table.parent).score()({"quality": 8.0, "cost": 1.0})
    )
    assert spec.check(table.parent).target == 0.5


def test_summaries_rank_and_test_in_pairs() -> None:
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(12):
        for name, gain in (("good", 2.0), ("bad", 0.0)):
            last = gain + rng.random()
            runs.append(Run(name, seed, [0.0, last], 5 if gain else None, 0.1, False, 3.0))
    good, bad = summaries(runs, larger_is_better=True)
    assert (good.rank, bad.rank) == (1.0, 2.0)
    assert 0.0 <= good.regret <= 1.0 < 2.0 <= bad.regret <= 3.0
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


@pytest.mark.parametrize("option", ["--json", "--plot"])
@pytest.mark.parametrize("place", [".", "missing/out"])
def test_a_file_that_cannot_be_written_is_found_before_any_run(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, place: str
) -> None:
    monkeypatch.setattr(Contest, "run", forbidden)
    arguments = ["benchmark", "--space", f"table:{table}", "--objective", "quality:max"]
    arguments += ["--strategies", "random", "--workers", "1", option, str(tmp_path / place)]
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, InvalidInputError)
    assert option.removeprefix("--") in str(found.exception)


def test_a_run_checks_nothing_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["benchmark", "--space", f"table:{table}", "--objective", "quality:max"]
    arguments += ["--strategies", "random", "--seeds", "3", "--budget", "5", "--workers", "1"]
    checks: list[BenchmarkSpec] = []
    check = BenchmarkSpec.check

    def counted(spec: BenchmarkSpec, folder: Path) -> Contest:
        checks.append(spec)
        return check(spec, folder)

    monkeypatch.setattr(BenchmarkSpec, "check", counted)
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert len(checks) == 1


def forbidden(*_: object) -> AbstractContextManager[None]:
    raise AssertionError("work began")


def test_nothing_to_do_starts_no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "cluster", forbidden)
    assert list(mapping.each_done(str, [])) == []
    assert list(mapping.each_done(str, [], address="127.0.0.1:1")) == []
    assert list(mapping.each_done(str, [1, 2], n_workers=1)) == ["1", "2"]
    with pytest.raises(AssertionError, match="work began"):
        list(mapping.each_done(str, [1, 2], n_workers=2))
    with pytest.raises(InvalidInputError, match="workers"):
        mapping.each_done(str, [], n_workers=0)  # not only when the first result is asked for


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
    cut = "\n".join([*lines[:3], lines[3][:20]])
    (tmp_path / "micro.jsonl").write_text(cut)
    again = CliRunner().invoke(app, arguments)  # a build that was killed goes on
    assert again.exit_code == 0, again.output
    restored = read_table(tmp_path / "micro.npz")
    assert (restored.columns["accuracy"] == table.columns["accuracy"]).all()
    kept = (tmp_path / "micro.jsonl").read_text()
    assert kept.startswith(cut + "\n") and kept.endswith("\n") and len(kept.splitlines()) == 5


MICRO = Path(__file__).parents[1] / "data" / "micro_digits.npz"


def test_the_whole_micro_benchmark_tells_strategies_apart() -> None:
    """Networks that were really trained; see `tests/data/README.md`."""
    table = read_table(MICRO)
    assert len(table.genotypes) == Build().space.size == 320
    spec = BenchmarkSpec(
        space=f"table:{MICRO}",
        objectives=("accuracy", "weight_bytes:min"),
        strategies=("predictor-guided", "nsga2", "optuna-tpe", "random"),
        seeds=5,
        budget=60,
    )
    contest = spec.check(MICRO.parent)
    volumes = {
        name: np.mean([contest.run(name, seed).trace[-1] for seed in range(5)])
        for name in spec.strategies
    }
    random = volumes.pop("random")
    assert all(volume > random + 0.01 for volume in volumes.values()), (random, volumes)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_search_leaves_the_region_its_first_trials_lie_in(seed: int) -> None:
    """Few and noisy accuracies make the predictor sure that half of the space is bad."""
    spec = BenchmarkSpec(
        space=f"table:{MICRO}",
        objectives=("accuracy_1_epochs", "weight_bytes:min"),
        strategies=("predictor-guided",),
        budget=60,
    )
    assert spec.check(MICRO.parent).run("predictor-guided", seed).trace[-1] > 0.95


def test_more_epochs_tell_more_of_the_whole_training() -> None:
    columns = read_table(MICRO).columns
    taus = [kendall_tau(columns[f"accuracy_{n}_epochs"], columns["accuracy"]) for n in (1, 3)]
    assert 0.2 < taus[0] < taus[1]
    between = kendall_tau(columns["accuracy_seed0"], columns["accuracy_seed1"])
    assert between > 0.5


def test_a_log_keeps_whole_lines_of_its_own_digest(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert read_log(log, "mine") == {}
    first = {"row": 0, "seed": 1, "accuracy": 0.5}
    append_log(log, "mine", first)
    append_log(log, "other", {"row": 0, "seed": 1, "accuracy": 0.1})
    log.write_text(log.read_text() + '{"row": 0, "seed": 1, "accuracy": 0.2}\n')
    log.write_text(log.read_text() + '{"digest": "mine", "row": 7, "se')
    second = {"row": 7, "seed": 1, "accuracy": 0.75}
    append_log(log, "mine", second)
    assert read_log(log, "mine") == {(0, 1): first, (7, 1): second}
    assert len(log.read_text().splitlines()) == 5


@pytest.mark.parametrize("change", [("SETTINGS", "n_runs", 90), ("SPACE", "kernels", [3])])
def test_the_digest_tells_settings_and_spaces_apart(
    monkeypatch: pytest.MonkeyPatch, change: tuple[str, str, object]
) -> None:
    before = Build().digest
    assert Build(limit=3).digest == before  # the first networks are the same ones
    where, name, value = change
    old = getattr(micro, where)
    new = replace(old, **{name: value}) if where == "SETTINGS" else {**old, name: value}
    monkeypatch.setattr(micro, where, new)
    assert Build().digest != before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--out", "x.csv"], "out.*npz"),
        (["--out", "missing/x.npz"], "out.*folder that exists"),
        (["--out", "x.npz", "--seeds", "0"], "seeds"),
        (["--out", "x.npz", "--workers", "0"], "workers"),
    ],
)
def test_a_wrong_micro_benchmark_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["micro-benchmark", *wrong, "--limit", "1"])
    assert isinstance(found.exception, InvalidInputError)
    assert re.search(message, str(found.exception))
    assert list(tmp_path.iterdir()) == []


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
