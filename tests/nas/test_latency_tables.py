"""Tables of layers, built here and on a device with an agent, and used by jobs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import searchspaces
from nas import jobs, latency_tables
from nas.cli.commands import app
from nas.core import (
    ConflictError,
    EvaluationError,
    Event,
    InvalidInputError,
    JobState,
    TrialState,
    UnknownNameError,
    WorkState,
)
from nas.core.device import FILES
from nas.latency_tables import build_table
from nas.spec import JobSpec
from nas.table_builds import log_path
from nas.workspace import Workspace
from tests.nas.test_devices import SPEC
from tests.waiting import until
from tests.workers.test_remote import profile as quick_profile
from workers.machine import environment
from workers.profiling import OnnxRuntimeProfiler
from workers.profiling.layers import layers_of
from workers.remote import RemoteDevices
from workers.tables import LayerTable, family_digest

FAMILY = searchspaces.family("mobilenet", (1, 8, 8), 10, {"n_stages": 1, "depths": [1]})


@contextmanager
def serving(workspace: Workspace) -> Iterator[list[str]]:
    """A device called pi that really times files; gives what it was asked for."""
    store, over, asked = workspace.store.devices(), threading.Event(), []
    facts = {"calibration": {"runtime": OnnxRuntimeProfiler().label, "reference_ms": 0.1}}
    store.register("pi", "one", "lab", facts, 600)

    def serve() -> None:
        while not over.is_set():
            work = store.claim("pi", "one", 600)
            if work is None:
                time.sleep(0.02)
                continue
            asked.append("layers" if "layer_runs" in work.settings else "file")
            path = workspace.home / FILES / f"{work.digest}.onnx"
            profile = OnnxRuntimeProfiler(**work.settings).profile(path)
            store.report(work.work_id, work.claim or "", profile.to_json())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        over.set()
        thread.join()


def test_a_table_is_built_once_and_predicts_for_a_device_that_is_gone(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    said: list[str] = []
    with serving(workspace) as asked:
        table = build_table(workspace, "pi", FAMILY, 4, 3, 0, said.append)
        assert asked.count("layers") == -(-len(table.layers) // 40) and asked.count("file") == 3
        again = build_table(workspace, "pi", FAMILY, 4, 3, 0, said.append)
        assert asked.count("file") == 6 and again.layers == table.layers
        assert any(", 0 of them new to pi" in line for line in said)
    assert table.error is not None and table.scale > 0
    assert LayerTable.read(tmp_path, "pi") == again
    workspace.store.devices().beat("pi", "one", -3600.0)
    job = jobs.submit(workspace, problem := jobs.checked(JobSpec.parse(SPEC), "local", workspace))
    jobs.run(workspace, job, problem, "local")
    trials = workspace.store.trial_store(job.job_id).trials()
    assert {t.state for t in trials} == {TrialState.COMPLETED}
    for trial in trials:
        about = trial.provenance["latency_ms@pi"]
        assert about["kind"] == "predicted" and about["error"] == again.error
        assert "table of layers" in about["on"]
        assert trial.metrics["latency_ms@pi"] > 0


def test_sums_are_features_of_what_is_measured(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    with serving(workspace):
        table = build_table(workspace, "pi", FAMILY, 4, 3, 0, lambda line: None)
        job = jobs.submit(
            workspace, problem := jobs.checked(JobSpec.parse(SPEC), "local", workspace)
        )
        devices = jobs.devices_of(workspace, job, problem)
        assert isinstance(devices, RemoteDevices)
        jobs.run(workspace, job, problem, "local")
    works = workspace.store.devices().works(job_id=job.job_id)
    for work in works:
        assert work.measured is not None
        path = workspace.home / FILES / f"{work.digest}.onnx"
        assert work.about["features"]["table_ms@pi"] == table.sum_of(layers_of(path)).ms
    assert len(works) in (2, 3)  # a finalist may be the same file as its trial


def test_a_job_has_the_table_built_meanwhile_and_only_once(tmp_path: Path) -> None:
    """Between its two trials the first job waits for the table: the second goes by its sums."""
    workspace = Workspace.open(tmp_path)
    spec = {**SPEC, "tables": True, "warm_start": False}

    def is_built() -> bool:
        table = LayerTable.read(tmp_path, "pi")
        return table is not None and family_digest(problem.family) in table.families

    def wait(event: Event) -> None:
        if event.trial.state is TrialState.COMPLETED:
            until(is_built, 300)

    with serving(workspace) as asked:
        problem = jobs.checked(JobSpec.parse(spec), "local", workspace)
        job, said = jobs.submit(workspace, problem), list[str]()
        jobs.run(workspace, job, problem, "local", listen=wait, say=said.append)
        assert said == [f"device pi: its table is built meanwhile, see {log_path(tmp_path, 'pi')}"]
        assert "layers" in asked and asked.count("file") >= 12
        second, *_ = workspace.store.devices().works(job_id=job.job_id)
        assert second.about["features"]["table_ms@pi"] > 0
        again = jobs.submit(workspace, jobs.checked(JobSpec.parse(spec), "local", workspace))
        jobs.run(workspace, again, problem, "local", say=said.append)
        assert len(said) == 1


def test_a_table_that_cannot_be_built_does_not_hold_a_job_up(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    with serving(workspace):
        workspace.store.devices().register("pi", "one", "lab", {}, 600)  # not calibrated
        problem = jobs.checked(JobSpec.parse({**SPEC, "tables": True}), "local", workspace)
        job = jobs.submit(workspace, problem)
        log = log_path(tmp_path, "pi")

        def wait(event: Event) -> None:
            until(lambda: "restart its agent" in log.read_text(), 300)

        jobs.run(workspace, job, problem, "local", listen=wait)
    assert workspace.store.job(job.job_id).state is JobState.COMPLETED
    assert LayerTable.read(tmp_path, "pi") is None


def test_a_job_that_ends_takes_its_build_along(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    devices = workspace.store.devices()
    facts = {"calibration": {"runtime": "onnxruntime 1", "reference_ms": 0.1}}
    devices.register("pi", "one", "lab", facts, 600)
    problem = jobs.checked(JobSpec.parse({**SPEC, "tables": True}), "local", workspace)
    job = jobs.submit(workspace, problem)

    def stop(event: Event) -> None:
        until(lambda: devices.works(job_id=""), 300)
        time.sleep(1.0)  # until it knows what the store knows already
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run(workspace, job, problem, "local", listen=stop)
    assert {work.state for work in devices.works(job_id="")} == {WorkState.CANCELLED}


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_its_build_to_finish(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    devices = workspace.store.devices()
    facts = {"calibration": {"runtime": OnnxRuntimeProfiler().label, "reference_ms": 0.1}}
    devices.register("pi", "one", "lab", facts, 600)
    problem = jobs.checked(JobSpec.parse({**SPEC, "tables": True}), "local", workspace)
    job = jobs.submit(workspace, problem)
    command = [sys.executable, "-m", "nas", "drive", job.job_id, "--home", str(tmp_path)]
    with subprocess.Popen(command, env=environment()) as driver:
        until(lambda: devices.works(job_id=""), 300)
        driver.kill()
    with serving(workspace) as asked:
        digest = family_digest(problem.family)
        until(lambda: (t := LayerTable.read(tmp_path, "pi")) and digest in t.families, 300)
        n_asked = len([kind for kind in asked if kind == "layers"])
        jobs.run(workspace, workspace.store.job(job.job_id), problem, "local")
    assert workspace.store.job(job.job_id).state is JobState.COMPLETED
    assert asked.count("layers") == n_asked


def test_tables_that_no_job_could_use_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="tables"):
        JobSpec.parse({**SPEC, "devices": ["cpu"], "tables": True})
    workspace = Workspace.open(tmp_path, "memory")
    workspace.store.devices().register("pi", "one", "lab", {}, 60)
    with pytest.raises(InvalidInputError, match="store in memory"):
        jobs.checked(JobSpec.parse({**SPEC, "tables": True}), "local", workspace)


def test_two_do_not_build_one_table(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    arguments = (workspace, "pi", FAMILY, 3, 3, 0)
    refused = []

    def meanwhile(line: str) -> None:
        if not refused:
            with pytest.raises(ConflictError, match="built already") as found:
                build_table(*arguments, lambda line: None)
            refused.append(found.value)

    with serving(workspace):
        build_table(*arguments, meanwhile)
    assert len(refused) == 1


def test_the_command_builds_one_for_this_machine(tmp_path: Path) -> None:
    options = ("--space-option", "n_stages=1", "--space-option", "depths=[1]", "--candidates", "3")
    home = ("--home", str(tmp_path))
    command = ["devices", "table", "cpu", "--files", "3", "--json", *options, *home]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert LayerTable.read(tmp_path, "cpu", OnnxRuntimeProfiler().label) is not None
    listed = CliRunner().invoke(app, ["devices", *home])
    assert listed.exit_code == 0 and "reference" in listed.output


def test_a_device_that_tells_no_layers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_tables, "LAYERS_A_FILE", 5)
    workspace = Workspace.open(tmp_path)
    store = workspace.store.devices()
    facts = {"calibration": {"runtime": "old 1", "reference_ms": 0.1}}
    store.register("pi", "one", "lab", facts, 600)

    def serve() -> None:
        while (work := store.claim("pi", "one", 600)) is None:
            time.sleep(0.02)
        store.report(work.work_id, work.claim or "", quick_profile(1.0).to_json())

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(EvaluationError, match="update its agent"):
        build_table(workspace, "pi", FAMILY, 3, 3, 0, lambda line: None)
    thread.join()
    states = [work.state for work in store.works()]
    assert len(states) > 2 and states.count(WorkState.DONE) == 1
    assert states.count(WorkState.CANCELLED) == len(states) - 1


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    arguments = (FAMILY, 4, 3, 0, lambda line: None)
    with pytest.raises(UnknownNameError, match="cpu"):
        build_table(workspace, "pi", *arguments)
    workspace.store.devices().register("pi", "one", "lab", {}, 60)
    with pytest.raises(ConflictError, match="restart its agent"):
        build_table(workspace, "pi", *arguments)
    with pytest.raises(InvalidInputError, match="3 to 4"):
        build_table(workspace, "cpu", FAMILY, 4, 5, 0, lambda line: None)
