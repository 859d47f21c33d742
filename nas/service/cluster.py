"""A Ray cluster of this machine: outlives a server that dies, ends with one that closes."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.executors._facts import OBJECT_STORE_BYTES, ClusterError
from workers.machine import usable_cpus

FACTS = "ray.json"
TOKEN = "ray.token"
START_SECONDS = 90.0
STOP_SECONDS = 5.0


@contextmanager
def local_cluster(home: Path, n_cpus: int | None = None) -> Iterator[str]:
    """Start Ray here, or find the one an earlier server of this folder left; gives its dashboard.

    Token authentication is on; the token lies in `home`, for its owner alone. The environment of
    this process is set so that Ray's clients find both.

    Raises:
        ClusterError: it does not come up.
    """
    home.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token(home)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    facts = home / FACTS
    found = json.loads(facts.read_text()) if facts.is_file() else None
    if found is None or not _answers(found["dashboard"]):
        found = _started(home, n_cpus or usable_cpus())
        facts.write_text(json.dumps(found))
    try:
        yield str(found["dashboard"])
    finally:
        _stop(found["group"])
        facts.unlink(missing_ok=True)


def _token(home: Path) -> Path:
    path = home / TOKEN
    if not path.is_file():
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _started(home: Path, n_cpus: int) -> dict[str, Any]:
    port, dashboard = _free_ports(2)
    command = [
        *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
        *("--node-ip-address", "127.0.0.1", "--port", str(port)),
        *("--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        *("--num-cpus", str(n_cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)),
        "--disable-usage-stats",
    ]
    with (home / "ray.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    url = f"http://127.0.0.1:{dashboard}"
    until = time.monotonic() + START_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > until:
            _stop(process.pid)
            raise ClusterError(f"Ray did not come up; {home / 'ray.log'} tells more")
        time.sleep(0.3)
    return {"dashboard": url, "address": f"127.0.0.1:{port}", "group": process.pid}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/gcs_healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_ports(n: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(n)]
    for one in with_sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_sockets]
    for one in with_sockets:
        one.close()
    return ports


def _stop(group: int) -> None:
    """End the process group that `ray start` made, and nothing else."""
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 2.0)):
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)
