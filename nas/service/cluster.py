"""A Ray cluster of this machine: outlives a server that dies, ends with one that closes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from workers.executors._facts import OBJECT_STORE_BYTES, ClusterError
from workers.machine import detached, usable_cpus

FACTS = "ray.json"
TOKEN = "ray.token"
START_SECONDS = 90.0
STOP_SECONDS = 5.0


class LocalCluster:
    """Ray on this machine, one per workspace.

    Token authentication is on; the token lies in `home`, for its owner alone. The environment of
    this process is set so that Ray, imported later, finds both.

    Args:
        home: the workspace.
        store_url: of the workspace's store; drivers inherit it by the environment.
        n_cpus: for trials; None for all of this machine.
    """

    def __init__(self, home: Path, store_url: str, n_cpus: int | None = None) -> None:
        self._home = home
        self._store_url = store_url
        self._n_cpus = n_cpus or usable_cpus()
        home.mkdir(parents=True, exist_ok=True)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(_token(home)),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def ensure(self) -> str:
        """Start it, unless it runs, perhaps left by an earlier server; gives its dashboard's URL.

        Raises:
            ClusterError: it does not come up.
        """
        facts = self._home / FACTS
        found = json.loads(facts.read_text()) if facts.is_file() else None
        if found is None or not _answers(found["dashboard"]):
            if found is not None:
                _stop(found["group"])
            found = self._started()
            facts.write_text(json.dumps(found))
        return str(found["dashboard"])

    def close(self) -> None:
        """End it, whoever started it; closing twice is fine."""
        facts = self._home / FACTS
        if facts.is_file():
            _stop(json.loads(facts.read_text())["group"])
            facts.unlink()

    def _started(self) -> dict[str, Any]:
        port, dashboard, agent, clients = _free_ports(4)
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--node-ip-address", "127.0.0.1", "--port", str(port)),
            *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
            *("--dashboard-agent-listen-port", str(agent)),
            *("--ray-client-server-port", str(clients)),
            *("--num-cpus", str(self._n_cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)),
            "--disable-usage-stats",
        ]
        process = detached(command, self._home / "ray.log", NAS_STORE=self._store_url)
        url = f"http://127.0.0.1:{dashboard}"
        until = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > until:
                _stop(process.pid)
                raise ClusterError(f"Ray did not come up; {self._home / 'ray.log'} tells more")
            time.sleep(0.3)
        return {"dashboard": url, "address": f"127.0.0.1:{port}", "group": process.pid}


def _token(home: Path) -> Path:
    path = home / TOKEN
    if not path.is_file():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/gcs_healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(n: int) -> list[int]:
    """Ports that nobody listens at, all different."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _stop(group: int) -> None:
    """End the process group that `ray start` made, and nothing else."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 2.0)):
        try:
            os.killpg(group, number)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                os.killpg(group, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return
