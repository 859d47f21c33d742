"""What `nas top` shows, asked of the public API alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from nas.cli import app
from nas.cli.top import Frame, drawn, look
from nas.client import Client
from nas.core import JobState
from nas.service import Server
from nas.service.launchers import Processes
from tests.dashboard.made_up import away_job, rich_job
from tests.service.conftest import SPEC, add_trials


def shown(frame: Frame, trouble: str = "") -> str:
    console = Console(width=170, record=True, quiet=True)
    with console.capture() as said:
        console.quiet = False
        console.print(drawn(frame, trouble))
    return said.get()


def row(text: str, part: str) -> str:
    return next(line for line in text.splitlines() if part in line)


def test_best_values_that_nobody_measured_are_marked(server: Server, client: Client) -> None:
    away_job(server, rich_job(server))
    text = shown(look(client))
    assert "accuracy ~" in row(text, "pi away") and "≈" in text.partition("everything")[0]
    assert "~" not in row(text, "everything")


def test_a_frame_tells_of_jobs_cluster_and_devices(server: Server, client: Client) -> None:
    store = server.workspace.store
    server.app.state.service.launcher = Processes(server.workspace.home, "sqlite:///x", 3)
    running = client.submit(**SPEC, name="[bold]busy")
    waiting = client.submit(**{**SPEC, "seed": 1}, name="waiting")
    over = client.submit(**{**SPEC, "seed": 2}, name="over")
    add_trials(store, running.job_id, 3, 2)
    trials = store.trial_store(running.job_id)
    trials.finish(trials.trial(2).failed("boom"))
    add_trials(store, running.job_id, 1, 0)
    store.set_state(running.job_id, JobState.RUNNING)
    store.give_workers(running.job_id, 3)
    store.set_state(over.job_id, JobState.COMPLETED)
    store.devices().register("rpi4", "one", "", {"processor": "Cortex-A72"}, 30.0)
    store.devices().submit("rpi4", "0" * 64, {}, "", {})
    text = shown(look(client))
    assert client.url in text and "processes: 1 of 3 workers busy" in text
    busy = row(text, running.job_id)
    assert "[bold]busy" in busy and "3 of 4 (1 failed)" in busy and "running" in busy
    assert "accuracy 0.6364" in busy and row(text, "weight_bytes 999") and "0 s" in busy
    assert busy.split()[-1] == "3"
    lines = [line for line in text.splitlines() if any(j.job_id in line for j in (waiting, over))]
    assert "waiting" in lines[0] and "completed" in lines[1], "whatever runs or waits comes first"
    device = row(text, "rpi4")
    assert device.split()[1:4] == ["live", "1", "0"] and "Cortex-A72" in device


def test_nothing_yet_says_what_to_do_and_trouble_is_said(server: Server, client: Client) -> None:
    text = shown(look(client), "as it was then: no answer")
    assert "nas search --server" in text and "as it was then" in text
    assert "nobody here starts jobs" in text


def test_one_frame_of_a_server_or_of_a_folder(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    job = client.submit(**SPEC, name="mine")
    add_trials(server.workspace.store, job.job_id, 2, 2)
    runner = CliRunner()
    for where in (("--server", server.url), ("--home", str(server.workspace.home))):
        found = runner.invoke(app, ["top", "--once", *where])
        assert found.exit_code == 0, found.output
        assert "2 of 4" in row(found.output, job.job_id)
    assert server.workspace.store.job(job.job_id).state is JobState.CREATED, "it starts no job"


def test_a_wrong_pace_or_folder_is_refused(tmp_path: Path) -> None:
    runner = CliRunner()
    assert "every" in str(runner.invoke(app, ["top", "--every", "0"]).exception)
    gone = runner.invoke(app, ["top", "--once", "--home", str(tmp_path)])
    assert "home" in str(gone.exception)


def test_ages_are_short() -> None:
    from nas.cli.top import _age

    assert [_age(s) for s in (-1.0, 7.4, 90.0, 7200.0, 200_000.0)] == [
        *("0 s", "7 s", "2 min", "2 h", "2 d")
    ]
