"""Devices that cannot call out: over a real SSH server, and an adb that runs all of it here."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas.core import EvaluationError, InvalidInputError, WorkState
from nas.service import Server, ServiceSettings
from tests.service.agents import QUICK, agent, is_registered, queued
from tests.waiting import until
from workers.agent.relay import Reach, Relay, write_archive
from workers.profiling.reference import reference_model

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
ADB = """#!/bin/sh
[ "$1" = -s ] && shift 2
cd {root} || exit 1
case "$1" in
  push) exec cp "$2" "$3" ;;
  shell) exec sh -c "$2" ;;
esac
"""
LONG = {"n_runs": 1_000_000, "tightness": 0.0, "max_seconds": 300.0}


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.onnx"
    path.write_bytes(reference_model())
    return path


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the device's, and an adb that works in it."""
    root, tools = tmp_path / "device", tmp_path / "tools"
    root.mkdir()
    tools.mkdir()
    (tools / "adb").write_text(ADB.format(root=root))
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return root


@dataclass(frozen=True)
class Host:
    """An SSH server on this machine, as `ssh -F CONFIG device` reaches it."""

    config: Path
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def relay(self) -> Relay:
        reach = Reach.of(f"ssh -F {self.config} device", str(self.folder))
        return Relay(reach, python=sys.executable)


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Host]:
    if not Path(SSHD).is_file() or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("needs openssh-server, openssh-client and root")
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    server = tmp_path / "sshd_config"
    server.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    client = tmp_path / "ssh_config"
    client.write_text(
        f"Host device\n  HostName 127.0.0.1\n  Port {port}\n  User root\n"
        f"  IdentityFile {tmp_path}/user\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {tmp_path}/known\n  StrictHostKeyChecking accept-new\n"
    )
    process = subprocess.Popen([SSHD, "-D", "-f", str(server)])
    try:
        until(lambda: _answers(port), 30)
        yield Host(client, tmp_path / "device", process)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def running_in(folder: Path) -> list[int]:
    """Processes that time files there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            here = (path / "cwd").resolve() == folder
            found += [int(path.name)] * (here and b"nas-measure" in (path / "cmdline").read_bytes())
        except OSError:
            continue
    return found


def test_the_archive_needs_nothing_of_this_checkout(tmp_path: Path) -> None:
    write_archive(tmp_path / "measure.pyz")
    assert (tmp_path / "measure.pyz").stat().st_size < 100_000
    command = [sys.executable, "-P", "measure.pyz"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for task, name in (("facts", "processor"), ("calibrate", "reference_ms")):
        asked = {"task": task, "settings": {"calibrations": "."}, "max_bytes": None}
        if task == "facts":
            asked["settings"] = {}
        done = subprocess.run(
            command,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[name]


@pytest.mark.slow
def test_files_are_timed_over_ssh(ssh: Host, reference: Path) -> None:
    relay = ssh.relay
    assert relay.facts()["runtimes"]["onnxruntime"]
    settings = {"n_runs": 60, "calibrations": "."}
    kept = relay.calibrate(settings)
    profile = relay.profile(reference, settings)
    assert 0.5 < profile.latency_ratio < 2.0
    assert profile.reference_ms == kept["reference_ms"]
    assert profile.peak_memory_bytes is None or profile.peak_memory_bytes >= 0
    (ssh.folder / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EvaluationError, match=r"cannot load model\.onnx"):
        relay.profile(ssh.folder / "broken.onnx", settings)
    ssh.process.kill()
    ssh.process.wait()
    with pytest.raises(EvaluationError, match="refused"):
        relay.profile(reference, settings)


@pytest.mark.slow
def test_nothing_goes_on_over_ssh_that_is_no_longer_wanted(ssh: Host, reference: Path) -> None:
    relay = ssh.relay
    with pytest.raises(EvaluationError, match="on request"):
        relay.profile(reference, LONG, goes_on=lambda: not running_in(ssh.folder))
    until(lambda: not running_in(ssh.folder), 20)


@pytest.mark.slow
def test_an_agent_serves_a_device_that_cannot_call_out(adb: Path, tmp_path: Path) -> None:
    settings = ServiceSettings(tmp_path / "home", port=0, supervise=False, device_seconds=3.0)
    with Server(settings) as server:
        store = server.workspace.store
        remote = ("--remote-python", sys.executable, "--remote-folder", "tmp/nas")
        with agent(server.url, tmp_path / "agent", "--through", "adb -s 12", *remote):
            until(lambda: is_registered(store), 120)
            facts = store.devices().device("pi").facts
            work = queued(store, settings.home, QUICK)
            until(lambda: not store.devices().work(work.work_id).state.is_open, 120)
        found = store.devices().work(work.work_id)
        assert found.state is WorkState.DONE, found.error
        assert found.measured is not None
        assert found.measured.reference_ms == facts["calibration"]["reference_ms"]
    assert {"nas-measure.pyz", "model.onnx"} <= {p.name for p in (adb / "tmp" / "nas").iterdir()}
    assert len(list((adb / "tmp" / "nas").glob("calibration-*.json"))) == 1


def test_what_is_not_reached_is_one_sentence(
    adb: Path, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluationError, match="ended with status 127"):
        Relay(Reach.of("adb", "x"), python="no-such-python").facts()
    adb.rmdir() if not list(adb.iterdir()) else shutil.rmtree(adb)
    with pytest.raises(EvaluationError, match="adb:"):
        Relay(Reach.of("adb", "x")).profile(reference, {})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EvaluationError, match="adb is not installed here"):
        Relay(Reach.of("adb")).facts()


def test_ways_to_reach_a_device() -> None:
    found = Reach.of("ssh -o Port=2222 pi@board")
    assert found.shell == ("ssh", "-o", "BatchMode=yes", "-o", "Port=2222", "pi@board")
    assert found.copy == ("scp", "-q", "-o", "BatchMode=yes", "-o", "Port=2222")
    assert (found.prefix, found.folder) == ("pi@board:", ".nas-agent")
    assert Reach.of("adb -s 12").shell == ("adb", "-s", "12", "shell")
    for text in ("", "telnet board", "ssh", "ssh -v", "ssh 'board"):
        with pytest.raises(InvalidInputError, match="through"):
            Reach.of(text)


def test_time_is_limited(adb: Path, reference: Path) -> None:
    started = time.monotonic()
    with pytest.raises(EvaluationError, match="not done after 3 s"):
        Relay(Reach.of("adb", "x"), max_seconds=3, python=sys.executable).profile(reference, LONG)
    assert time.monotonic() - started < 60
    until(lambda: not running_in(adb / "x"), 10)
