"""Devices that are tables: imported, then named by jobs and by commands as any device is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

import nas
import searchspaces
from dashboard.figures import marked
from nas import jobs
from nas.cli.commands import app
from nas.core import (
    ConflictError,
    Fidelity,
    InvalidInputError,
    Report,
    Trial,
    TrialState,
    UnknownNameError,
)
from nas.imported_tables import import_table, simulated
from nas.latency_tables import build_table
from nas.spec import JobSpec
from nas.workspace import Workspace, require_devices
from tests.nas import test_devices
from tests.workers.formula_table import entries, write
from workers.imported import COLUMNS, imported_path, key_of
from workers.simulated import candidate_layers

SPEC = {
    **test_devices.SPEC,
    "objectives": ["accuracy", "latency_ms@npu"],
    "constraints": ["energy_mj@npu<=1000"],
    "devices": ["npu"],
}
FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1, "depths": [1]})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """With the table of npu, which has all pointwise layers of some candidates."""
    rows = FAMILY.space.sample(20, np.random.default_rng(0))
    layers = [la for row in rows for la in candidate_layers(FAMILY, FAMILY.space.candidate(row))]
    keys = [key_of(layer) for layer in layers if layer.kernel == (1, 1)]
    more = {key: {"latency": 0.5, "energy": 0.25} for key in keys if key is not None}
    home = tmp_path / "home"
    import_table(home, "npu", write(tmp_path / "npu.json", **more), [])
    return Workspace.open(home)


def ran(workspace: Workspace, say: Report | None = None, **more: object) -> list[Trial]:
    problem = jobs.checked(JobSpec.parse({**SPEC, **more}), "local", workspace)
    job = jobs.submit(workspace, problem)
    jobs.run(workspace, job, problem, "local", say=say)
    trials = workspace.store.trial_store(job.job_id).trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    return [trial for trial in trials if trial.candidate is not None]


def require_told(workspace: Workspace, trials: list[Trial]) -> None:
    """Their figures are what the table says of their layers, marked as simulated."""
    devices = simulated(JobSpec.parse(SPEC), workspace.home)
    for trial in trials:
        assert trial.candidate is not None
        figures = devices.figures(FAMILY, trial.candidate)
        assert set(figures.metrics) == {f"{metric}@npu" for metric in COLUMNS}
        for metric, value in figures.metrics.items():
            assert trial.metrics[metric] == value > 0
            assert trial.kind(metric) == "simulated" and marked(trial, metric, "1") == "~1"
            about = trial.source(metric)
            n, of = about["n_interpolated"], about["n_layers"]
            assert about["on"] == f"npu, its imported table of layers, {n} of {of} interpolated"
            assert set(about["interpolation_error"]) == {"depthwise", "other"}


def test_a_job_goes_by_the_sums_of_a_table(workspace: Workspace) -> None:
    trials = ran(workspace)
    require_told(workspace, trials)
    assert {t.fidelity for t in trials} == {Fidelity.TRAINED, Fidelity.DEPLOYED}
    assert all(t.kind("latency_ms") == "measured" for t in trials)
    shares = [t.source("energy_mj@npu") for t in trials]
    assert any(about["n_interpolated"] < about["n_layers"] for about in shares)
    assert workspace.store.devices().works() == []


@pytest.mark.slow
def test_inherited_scores_have_them_and_nothing_is_timed_for_it(workspace: Workspace) -> None:
    trials = ran(workspace, supernet={"epochs": 1})
    require_told(workspace, trials)
    inherited = [t for t in trials if t.fidelity is Fidelity.INHERITED]
    assert inherited and all("latency_ms" not in t.metrics for t in inherited)


def test_python_names_it_like_any_device(workspace: Workspace) -> None:
    front = nas.search(
        "digits",
        space=SPEC["space"],  # type: ignore[arg-type]
        strategy="random",
        objectives=["accuracy", "latency_ms@npu"],
        devices=["npu"],
        trials=1,
        finalists=1,
        training=SPEC["training"],  # type: ignore[arg-type]
        home=workspace.home,
        progress=False,
    )
    (model,) = front
    assert model.trial.metrics["latency_ms@npu"] > 0
    require_told(workspace, [model.trial])


def test_layers_depend_on_the_candidate_alone() -> None:
    candidate = FAMILY.space.candidate(FAMILY.space.sample(1, np.random.default_rng(3))[0])
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    layers = candidate_layers(FAMILY, candidate)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert candidate_layers(FAMILY, candidate) == layers


@pytest.mark.parametrize("field", ["objectives", "constraints"])
def test_metrics_it_does_not_tell_are_refused(workspace: Workspace, field: str) -> None:
    asked = {"objectives": "peak_memory_bytes@npu", "constraints": "load_ms@npu<=1"}[field]
    spec = JobSpec.parse({**SPEC, field: ["accuracy", asked][field == "constraints" :]})
    known = "known: energy_mj@npu, latency_ms@npu"
    for refuse in (
        lambda: require_devices(spec, workspace.home),
        lambda: jobs.checked(spec, "local", workspace),
    ):
        with pytest.raises(UnknownNameError, match=known) as error:
            refuse()
        assert error.value.field == field


def test_a_device_that_is_not_there_is_told_from_tables(workspace: Workspace) -> None:
    spec = JobSpec.parse({**SPEC, "devices": ["npu", "pi"]})
    with pytest.raises(UnknownNameError, match="known: cpu, npu"):
        jobs.checked(spec, "local", workspace)
    with pytest.raises(UnknownNameError, match="known: cpu, npu"):
        require_devices(spec, workspace.home)
    workspace.store.devices().register("pi", "one", "lab", {}, 60)
    job = jobs.submit(workspace, problem := jobs.checked(spec, "local", workspace))
    agents = jobs.devices_of(workspace, job, problem)
    assert agents is not None and agents.names == ("pi",)


def test_a_name_stays_that_of_one_table(workspace: Workspace, tmp_path: Path) -> None:
    path = imported_path(workspace.home, "npu")
    before = path.read_bytes()
    import_table(workspace.home, "npu", tmp_path / "npu.json", [])
    other = write(tmp_path / "other.json")
    with pytest.raises(InvalidInputError, match="table with other entries"):
        import_table(workspace.home, "npu", other, [])
    with pytest.raises(InvalidInputError, match="device with an agent"):
        import_table(workspace.home, "pi", other, ["pi"])
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_table_needs_no_table_of_layers(workspace: Workspace) -> None:
    with pytest.raises(ConflictError, match="npu is an imported table"):
        build_table(workspace, "npu", FAMILY, 4, 3, 0, lambda line: None)
    said = list[str]()
    ran(workspace, said.append, tables=True, budget={"trials": 1, "finalists": 1})
    assert said == []


def test_the_command_imports_lists_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.cli.devices.out", Console(width=200))
    home, file = ("--home", str(tmp_path / "home")), write(tmp_path / "npu.json")
    run = CliRunner().invoke
    done = run(app, ["devices", "import", "npu", str(file), *home])
    assert done.exit_code == 0, done.output
    assert "head" in done.output and "latency_ms, depthwise:" in done.output
    told = json.loads(run(app, ["devices", "import", "npu", str(file), "--json", *home]).stdout)
    assert told["layers"] == len(entries()) and set(told["errors"]) == set(COLUMNS)
    listed = run(app, ["devices", *home]).output
    assert "npu" in listed and f"{len(entries())} layers: latency_ms, energy_mj" in listed
    Workspace.open(tmp_path / "home").store.devices().register("pi", "one", "lab", {}, 60)
    taken = run(app, ["devices", "import", "pi", str(file), *home])
    assert isinstance(taken.exception, InvalidInputError) and "agent" in str(taken.exception)


def test_a_refused_import_leaves_nothing_behind(tmp_path: Path) -> None:
    home, file = tmp_path / "home", write(tmp_path / "t.json", bad_key={}, **{"(8)-W4A4": {}})
    for name, path in (("cpu", file), ("npu", file), ("npu", tmp_path / "none.json")):
        done = CliRunner().invoke(app, ["devices", "import", name, str(path), "--home", str(home)])
        assert isinstance(done.exception, InvalidInputError)
    assert not home.exists()
