"""Tables of layers built through a server, of its own process and of another."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas.cli.commands import app
from nas.client import AccessError, Client
from nas.core import (
    ConflictError,
    DeviceStore,
    EvaluationError,
    InvalidInputError,
    NotFoundError,
    Role,
    WorkState,
)
from nas.service import Server, ServiceSettings
from nas.workspace import Workspace
from tests.nas.test_latency_tables import serving
from tests.waiting import until
from workers.tables import LayerTable

SPACE = {"name": "mobilenet", "options": {"n_stages": 1, "depths": [1]}}
SMALL = {"space": SPACE, "candidates": 4, "files": 3}
FACTS = {"calibration": {"runtime": "onnxruntime 1", "reference_ms": 0.1}}


@pytest.mark.parametrize("is_own", [True, False])
def test_a_table_is_built_and_said_step_by_step(tmp_path: Path, is_own: bool) -> None:
    home, said = tmp_path / "home", list[str]()
    settings = ServiceSettings(home, port=0, supervise=False)
    with (
        Server(settings) as server,
        Client(None if is_own else server.url, home=home) as client,
        serving(Workspace.open(home)) as asked,
    ):
        found = client.build_table("pi", said.append, **SMALL)
        kept = LayerTable.read(home, "pi")
        assert kept is not None and found == kept.summary and found["files"] == 3
        assert asked.count("file") == 3 and asked.count("layers") == -(-found["layers"] // 40)
        assert "exporting 4 candidates" in said[0] and "timing 3 whole networks" in said[-1]
        options = ("--space-option", "n_stages=1", "--space-option", "depths=[1]", "--json")
        counts = ("--candidates", "4", "--files", "3", "--server", server.url)
        again = CliRunner().invoke(app, ["devices", "table", "pi", *options, *counts])
        assert again.exit_code == 0, again.output
        assert f"{found['layers']} different layers, 0 of them new to pi" in again.stderr
        assert json.loads(again.stdout)["layers"] == found["layers"]


def test_what_the_device_says_is_the_error(server: Server, client: Client) -> None:
    devices = server.workspace.store.devices()
    devices.register("pi", "one", "lab", FACTS, 600)
    stopped = answering(devices, lambda work, claim: devices.report(work, claim, error="no memory"))
    with pytest.raises(EvaluationError, match=r"^on pi: no memory$"):
        client.build_table("pi", **SMALL)
    stopped()
    assert {work.state for work in devices.works()} <= {WorkState.FAILED, WorkState.CANCELLED}


def test_a_build_goes_on_with_a_server_started_anew(tmp_path: Path) -> None:
    home = tmp_path / "home"
    workspace = Workspace.open(home)
    devices = workspace.store.devices()
    found: list[object] = []
    with Server(ServiceSettings(home, port=0, supervise=False)) as first:
        devices.register("pi", "one", "lab", FACTS, 600)
        client = Client(first.url)
        thread = threading.Thread(target=lambda: found.append(client.build_table("pi", **SMALL)))
        thread.start()
        until(lambda: devices.waiting().get("pi"))
        with pytest.raises(ConflictError, match="another table of pi"):
            client.build_table("pi", **{**SMALL, "candidates": 5})
    assert not devices.waiting()  # nothing is left behind that nobody waits for
    port = int(first.url.rpartition(":")[2])
    with Server(ServiceSettings(home, port=port, supervise=False)), serving(workspace):
        thread.join()
    client.close()
    kept = LayerTable.read(home, "pi")
    assert kept is not None and found == [kept.summary]


def test_what_cannot_be_built_is_refused_before_any_work(server: Server, client: Client) -> None:
    devices = server.workspace.store.devices()
    with pytest.raises(NotFoundError, match="pi"):
        client.build_table("pi", **SMALL)
    with pytest.raises(InvalidInputError, match="one with an agent"):
        client.build_table("cpu", **SMALL)
    devices.register("pi", "one", "lab", {}, 600)
    with pytest.raises(ConflictError, match="restart its agent"):
        client.build_table("pi", **SMALL)
    devices.register("pi", "one", "lab", FACTS, 600)
    for wrong, said in (
        ({"files": 5}, "3 to 4"),
        ({"space": "none"}, "mobilenet"),
        ({"space": "os:path"}, "nas serve --allow"),
        ({"data": "/etc"}, "uploaded data set|not usable"),
        ({"candidates": 2}, "candidates"),
        ({"epochs": 2}, "no such setting"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            client.build_table("pi", **{**SMALL, **wrong})
    assert not devices.works()
    _, secret = server.workspace.store.accounts().create_token("t", "lab", Role.DEVICE)
    with Client(server.url, token=secret) as agent, pytest.raises(AccessError):
        agent.build_table("pi", **SMALL)


def answering(devices: DeviceStore, report: Callable[[str, str], object]) -> Callable[[], None]:
    """Answer all work of pi in a thread; the function returned ends that."""
    over = threading.Event()

    def serve() -> None:
        while not over.wait(0.02):
            work = devices.claim("pi", "one", 600)
            if work is not None:
                report(work.work_id, work.claim or "")

    thread = threading.Thread(target=serve)
    thread.start()

    def stop() -> None:
        over.set()
        thread.join()

    return stop
