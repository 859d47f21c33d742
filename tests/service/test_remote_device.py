"""A search whose device is behind a real link: cut and restored, its agent killed and restarted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nas import jobs
from nas.core import JobStore, Role, TrialState, WorkState
from nas.service import Server, ServiceSettings
from nas.spec import JobSpec
from nas.workspace import Workspace
from tests.nas.test_devices import SPEC
from tests.service.agents import agent, is_registered, resident_bytes
from tests.waiting import until

LONGER = {
    **SPEC,
    "budget": {"trials": 4, "finalists": 1},
    "training": {**SPEC["training"], "latency_runs": 60},  # type: ignore[dict-item]
}


def missing() -> str | None:
    """What this machine lacks for the test; None if nothing."""
    if shutil.which("ip") is None:
        return "iproute2 (the ip command)"
    if os.geteuid() != 0:
        return "root"
    name = f"nas-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "the right to make network namespaces"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@dataclass(frozen=True)
class Link:
    """A namespace joined to this one by a cable of its own."""

    namespace: str
    here: str
    address: str

    def switch(self, state: str) -> None:
        subprocess.run(["ip", "link", "set", self.here, state], check=True)

    def carried(self) -> int:
        counters = Path("/sys/class/net") / self.here / "statistics"
        return sum(int((counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))


@pytest.fixture
def link() -> Iterator[Link]:
    lacking = missing()
    if lacking is not None:
        pytest.skip(f"needs {lacking}")
    number = os.getpid() % 60_000
    namespace, here, there = f"nas-dev-{number}", f"nasd{number}", f"nase{number}"
    subnet = f"10.{201 + number // 250 % 50}.{number % 250}"
    commands = (
        f"ip netns add {namespace}",
        f"ip link add {here} type veth peer name {there} netns {namespace}",
        f"ip address add {subnet}.1/24 dev {here}",
        f"ip link set {here} up",
        f"ip -n {namespace} address add {subnet}.2/24 dev {there}",
        f"ip -n {namespace} link set {there} up",
        f"ip -n {namespace} link set lo up",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield Link(namespace, here, f"{subnet}.1")
    finally:
        subprocess.run(["ip", "link", "delete", here], capture_output=True)
        subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def cut_and_restore(link: Link, store: JobStore) -> None:
    """Cut the link after the first report, until the device counts as gone, and two seconds on."""
    until(lambda: store.devices().device("pi").n_done >= 1)
    link.switch("down")
    until(lambda: not is_registered(store))
    time.sleep(2.0)
    link.switch("up")
    until(lambda: is_registered(store))


@pytest.mark.slow
def test_a_search_survives_its_device(link: Link, tmp_path: Path) -> None:
    home = tmp_path / "home"
    workspace = Workspace.open(home)
    _, secret = workspace.store.accounts().create_token("pi", "lab", Role.DEVICE)
    settings = ServiceSettings(home, host=link.address, port=0, supervise=False, device_seconds=3.0)
    devices = workspace.store.devices()
    prefix = ["ip", "netns", "exec", link.namespace]
    with Server(settings) as server:
        options = (server.url, tmp_path / "agent", "--token", secret)
        with agent(*options, prefix=prefix) as first:
            until(lambda: is_registered(workspace.store))
            memory, before = resident_bytes(first.pid), link.carried()
            time.sleep(5.0)
            idle = (link.carried() - before) / 5
            problem = jobs.checked(JobSpec.parse(LONGER), "local", workspace)
            job, before = jobs.submit(workspace, problem), link.carried()
            searching = threading.Thread(
                target=jobs.run, args=(workspace, job, problem, "local"), daemon=True
            )
            searching.start()
            cut_and_restore(link, workspace.store)
            until(lambda: devices.works(states=(WorkState.CLAIMED,)), 120)
            first.send_signal(signal.SIGKILL)
            first.wait()
        with agent(*options, prefix=prefix):
            searching.join(240)
            assert not searching.is_alive()
        sent = link.carried() - before
    trials = workspace.store.trial_store(job.job_id).trials()
    assert len(trials) == 5
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    assert {t.provenance["latency_ms@pi"]["kind"] for t in trials} == {"measured"}
    works = devices.works(job_id=job.job_id)
    assert {work.state for work in works} == {WorkState.DONE}
    assert devices.device("pi").n_done == len(works) == 5
    assert max(work.attempts for work in works) >= 2  # the killed one was measured again
    print(f"agent {memory / 2**20:.0f} MiB; idle {idle:.0f} bytes/s; search {sent} bytes")
