"""Devices over HTTP: what agents, users and strangers may do."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nas.cli.commands import app
from nas.client import Client
from nas.core import InvalidInputError, Role
from nas.imported_tables import import_table
from nas.service import Server
from tests.service.conftest import SPEC
from tests.workers.formula_table import write

AGENT = {"instance": "one"}
PROFILE = {
    "latency_ms": {"p10": 1.0, "p50": 2.0, "p90": 3.0, "p99": 4.0},
    "latency_interval": [1.9, 2.1],
    "latency_ratio": 1.5,
    "ratio_interval": [1.4, 1.6],
    "n_runs": 100,
    "spread": 0.1,
    "load_ms": 3.0,
    "peak_memory_bytes": None,
    "energy_mj": None,
    "conditions": {},
}


class Caller:
    def __init__(self, server: Server, role: Role | None = None, owner: str = "lab") -> None:
        headers = {}
        if role is not None:
            _, secret = server.workspace.store.accounts().create_token("t", owner, role)
            headers = {"Authorization": f"Bearer {secret}"}
        self.http = httpx.Client(base_url=f"{server.url}/v1", headers=headers, timeout=30)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json={**AGENT, **body})


def put(server: Server, content: bytes, job_id: str = "") -> str:
    digest = hashlib.sha256(content).hexdigest()
    server.settings.device_files.mkdir(parents=True, exist_ok=True)
    (server.settings.device_files / f"{digest}.onnx").write_bytes(content)
    return server.workspace.store.devices().submit("pi", digest, {"n_runs": 30}, job_id).work_id


def test_an_agent_registers_claims_fetches_and_reports(server: Server, client: Client) -> None:
    agent = Caller(server, Role.DEVICE)
    admin = Caller(server, Role.ADMIN)
    assert agent.post("/devices/pi/register", facts={"processor": "A72"}).status_code == 200
    assert agent.post("/devices/pi/register", instance="two").status_code == 409
    work_id = put(server, b"file")
    work = agent.post("/devices/pi/claim", wait=5).json()["work"]
    assert (work["work_id"], work["settings"]) == (work_id, {"n_runs": 30})
    assert agent.post("/devices/pi/heartbeat", holding=[work_id]).json() == {"held": [work_id]}
    there = agent.http.get(f"/device-work/{work_id}/file", headers={"X-Claim": work["claim"]})
    assert there.content == b"file"
    guess = agent.http.get(f"/device-work/{work_id}/file", headers={"X-Claim": "guess"})
    assert guess.status_code == 404
    (told,) = [d for d in admin.http.get("/devices").json() if d["name"] == "pi"]
    assert told["is_live"] and told["waiting"] == 1 and told["facts"] == {"processor": "A72"}
    for _ in range(2):
        done = agent.post(f"/device-work/{work_id}/report", claim=work["claim"], profile=PROFILE)
        assert done.json()["state"] == "done"
    assert agent.post(f"/device-work/{work_id}/report", claim="x").status_code == 409
    assert list(server.settings.device_files.iterdir()) == []
    (shown,) = admin.http.get("/devices/pi/work").json()
    assert shown["profile"] == {**PROFILE, "reference_ms": None} and "claim" not in shown
    assert admin.http.delete("/devices/pi").status_code == 409


def test_a_profile_that_is_none_is_refused(server: Server) -> None:
    agent = Caller(server, Role.DEVICE)
    agent.post("/devices/pi/register")
    work_id = put(server, b"file")
    work = agent.post("/devices/pi/claim").json()["work"]
    bad = {**PROFILE, "n_runs": "many"}
    answer = agent.post(f"/device-work/{work_id}/report", claim=work["claim"], profile=bad)
    assert answer.status_code == 422 and answer.json()["error"]["field"] == "profile"


def test_a_device_may_only_be_a_device(server: Server) -> None:
    agent, user = Caller(server, Role.DEVICE), Caller(server, Role.USER)
    other = Caller(server, Role.DEVICE, owner="stranger")
    for path in ("/jobs", "/devices", "/tokens", "/me", "/datasets", "/devices/pi/work"):
        assert agent.http.get(path).status_code == 403
    assert agent.http.post("/jobs", json=SPEC).status_code == 403
    assert user.post("/devices/pi/register").status_code == 403
    assert agent.post("/devices/pi/register").status_code == 200
    assert other.post("/devices/pi/register").status_code == 409
    assert other.post("/devices/pi/claim").status_code == 403
    assert Caller(server).post("/devices/pi/register").status_code == 401
    assert user.http.get("/devices/pi").json()["is_live"]
    assert user.http.get("/devices/cpu").json()["kind"] == "local"


def test_work_is_cancelled_by_who_owns_its_job(server: Server) -> None:
    agent = Caller(server, Role.DEVICE)
    ann, bob = Caller(server, Role.USER, "ann"), Caller(server, Role.USER, "bob")
    job = server.workspace.store.create_job("a", SPEC, "ann")
    agent.post("/devices/pi/register")
    work_id = put(server, b"file", job.job_id)
    assert bob.post(f"/device-work/{work_id}/cancel").status_code == 404
    assert ann.post(f"/device-work/{work_id}/cancel").json()["state"] == "cancelled"
    assert agent.post("/devices/pi/claim").json() == {"work": None}


def test_waiting_for_work_ends_when_some_comes(server: Server) -> None:
    agent = Caller(server, Role.DEVICE)
    agent.post("/devices/pi/register")
    started = time.monotonic()
    assert agent.post("/devices/pi/claim", wait=0.6).json() == {"work": None}
    assert 0.5 < time.monotonic() - started < 10


def test_an_imported_table_is_a_device_without_an_agent(
    server: Server, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.cli.devices.out", Console(width=200))
    home = server.workspace.home
    table = import_table(home, "npu", write(tmp_path / "npu.json"), [])
    agent, admin = Caller(server, Role.DEVICE), Caller(server, Role.ADMIN)
    (told,) = [d for d in admin.http.get("/devices").json() if d["kind"] == "table"]
    assert told == admin.http.get("/devices/npu").json()
    assert (told["name"], told["is_live"], told["facts"]) == ("npu", True, table.summary)
    refused = agent.post("/devices/npu/register")
    assert refused.status_code == 409 and "npu is an imported table" in refused.text
    for path in ("work", "calibration", "table"):
        assert admin.http.get(f"/devices/npu/{path}").status_code == 409
    assert admin.http.delete("/devices/npu").status_code == 409
    assert admin.http.post("/devices/npu/table", json={}).status_code == 409
    _, secret = server.workspace.store.accounts().create_token("t", "me", Role.USER)
    environment = {"NAS_TOKEN": secret}
    listed = CliRunner().invoke(app, ["devices", "--server", server.url], env=environment)
    assert "npu" in listed.output and "layers: latency_ms, energy_mj" in listed.output


def test_jobs_of_a_server_may_name_an_imported_table(
    server: Server, client: Client, tmp_path: Path
) -> None:
    spec = {**SPEC, "objectives": ["accuracy", "energy_mj@npu"], "devices": ["npu"]}
    with pytest.raises(InvalidInputError, match="known: cpu"):
        client.submit(**spec)
    import_table(server.workspace.home, "npu", write(tmp_path / "npu.json"), [])
    assert client.submit(**spec).job_id
    with pytest.raises(InvalidInputError, match="known: energy_mj@npu, latency_ms@npu"):
        client.submit(**{**spec, "objectives": ["accuracy", "load_ms@npu"]})
