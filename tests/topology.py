"""The topology of docker-compose.yml without containers: four hosts as namespaces of Linux.

    python -m tests.topology up                  # prints folder, URLs and a token
    python -m tests.topology cut FOLDER worker   # or restore, kill, stop, start; any host
    python -m tests.topology down FOLDER

A host has an address, a name and processes of its own: PostgreSQL on `database`, Ray's head and the
drivers on `head`, one more Ray node on `worker`, and `nas serve` on `api`. They see the same files,
and are connected by a bridge. Whatever runs in a host's network namespace was started here, and is
all that is ever ended.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.namespaces import ip, new_bridge, number_inside, send

ROOT = Path(__file__).parents[1]
HOSTS = ("database", "head", "worker", "api")
RAY, DASHBOARD, AGENT, API = 6379, 8265, 52365, 8470
START_SECONDS, STOP_SECONDS = 120.0, 15.0
RAY_NODE = ["--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
STATE = "topology.json"
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def obstacle() -> str | None:
    """Why this machine cannot have the topology; None where it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    for program in ("ip", "nsenter", "setpriv", "unshare"):
        if shutil.which(program) is None:
            return f"no command {program}"
    if _postgres_folder() is None:
        return "no PostgreSQL server is installed"
    probe = f"nas-probe-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces are not allowed: {tried.stderr.strip()}"
    ip("netns", "delete", probe)
    return None


@dataclass(frozen=True)
class Topology:
    """Four hosts; a context manager that ends them all.

    Attributes:
        number: 0 to 255, tells this topology's namespaces, bridge and subnet from others'.
        folder: of everything written; goes with it.
        password: of the database.
        ray_token: of the Ray cluster.
        token: of an admin of the API.
    """

    number: int
    folder: Path
    password: str
    ray_token: str
    token: str = ""

    @classmethod
    def up(cls) -> Topology:
        """Start everything; returns when the API answers and both Ray nodes are alive."""
        folder = Path(tempfile.mkdtemp(prefix="nas-topology-"))
        folder.chmod(0o755)  # PostgreSQL runs as somebody else
        new = cls(new_bridge(), folder, secrets.token_hex(16), secrets.token_hex(32))
        try:
            new._write_state()
            for host in HOSTS:
                new._add(host)
            new._write_secrets()
            new._make_database()
            for host in HOSTS[:-1]:
                new.start(host)
            token = new.run("api", "nas", "token", "create", "tester")
            new = cls(new.number, folder, new.password, new.ray_token, token.split()[-1])
            new._write_state()
            new.start("api")
        except BaseException:
            new.down()
            raise
        return new

    @classmethod
    def found(cls, folder: Path) -> Topology:
        """The one that `up` left in `folder`."""
        state = json.loads((folder / STATE).read_text())
        return cls(**{**state, "folder": folder})

    def down(self) -> None:
        """End every process of every host, then the network, then the files."""
        for name, host in ((self._namespace(host), host) for host in HOSTS):
            if (Path("/run/netns") / name).exists():
                self.kill(host)
                if (Path("/sys/class/net") / name).exists():
                    # a namespace alone may outlive its processes' sockets
                    ip("link", "delete", name)
                ip("netns", "delete", name)
        ip("link", "delete", self._bridge)
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        self.down()

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://{self.address('api')}:{API}"

    @property
    def home(self) -> Path:
        """The workspace, which all hosts see."""
        return self.folder / "home"

    @property
    def store(self) -> str:
        """URL of the database, without the password."""
        return f"postgresql+psycopg://nas@{self.address('database')}/postgres"

    def address(self, host: str) -> str:
        """Of a host, in the range that is set aside for testing networks (RFC 2544)."""
        return f"198.18.{self.number}.{HOSTS.index(host) + 1}"

    def cut(self, host: str) -> None:
        """Pull the cable: nobody reaches the host any more, nor it anybody."""
        ip("link", "set", self._namespace(host), "down")

    def restore(self, host: str) -> None:
        """Plug it in again."""
        ip("link", "set", self._namespace(host), "up")

    def kill(self, host: str) -> None:
        """Switch the host off: SIGKILL to all that runs there."""
        until = time.monotonic() + STOP_SECONDS
        while pids := self.pids(host):
            send(pids, signal.SIGKILL)
            assert time.monotonic() < until, f"{host} does not end: {pids}"
            time.sleep(0.05)

    def stop(self, host: str) -> None:
        """Ask all that runs there to end, and wait; what does not is killed."""
        send(self.pids(host), signal.SIGTERM)
        until = time.monotonic() + STOP_SECONDS
        while self.pids(host) and time.monotonic() < until:
            time.sleep(0.05)
        self.kill(host)

    def start(self, host: str) -> None:
        """Start what belongs there; returns when it answers."""
        log = self.folder / f"{host}.log"
        with log.open("ab") as out:
            started = subprocess.Popen(
                self._inside(host, *self._command(host)),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=self._environment(),
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not self.answers(host):
            if started.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{host} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)

    def run(self, host: str, *command: str) -> str:
        """What a command says that runs to its end, beside what runs on the host already."""
        inside = self._inside(host, *command)
        for pid in self.pids(host):
            if number_inside(pid) == 1:
                join = ["nsenter", f"--target={pid}", "--net", "--uts", "--pid", "--mount"]
                inside = [*join, *command]
        done = subprocess.run(
            inside,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment(),
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
        return done.stdout

    def pids(self, host: str) -> list[int]:
        """Of all processes there."""
        return [int(pid) for pid in ip("netns", "pids", self._namespace(host)).split()]

    def busy(self, host: str) -> list[int]:
        """Of the processes there that compute a task of Ray."""
        found = []
        for pid in self.pids(host):
            try:
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue  # it ended meanwhile
            if title.startswith(b"ray::") and not title.startswith(b"ray::IDLE"):
                found.append(pid)
        return found

    def answers(self, host: str) -> bool:
        """Whether what belongs there is ready."""
        where = f"http://{self.address(host)}"
        try:
            match host:
                case "database":
                    self.connect().close()
                case "head":
                    DIRECT.open(f"{where}:{DASHBOARD}/api/gcs_healthz", timeout=2).close()
                case "worker":
                    DIRECT.open(f"{where}:{AGENT}/api/local_raylet_healthz", timeout=2).close()
                case _:
                    DIRECT.open(f"{where}:{API}/readyz", timeout=2).close()
        except (OSError, psycopg.OperationalError):
            return False
        return True

    def connect(self) -> psycopg.Connection[Any]:
        """A connection to the database."""
        url = self.store.replace("+psycopg", "")
        return psycopg.connect(url, password=self.password, connect_timeout=2)

    def ray(self, what: str) -> list[dict[str, Any]]:
        """All `nodes`, `tasks` or `workers` that Ray knows of."""
        url = f"http://{self.address('head')}:{DASHBOARD}/api/v0/{what}?limit=10000&detail=true"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.ray_token}"})
        with DIRECT.open(request, timeout=30) as answer:
            rows: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return rows

    @property
    def _bridge(self) -> str:
        return f"nas{self.number}"

    def _namespace(self, host: str) -> str:
        return f"{self._bridge}-{host}"  # and its end of the cable, on the bridge

    def _add(self, host: str) -> None:
        name = self._namespace(host)
        ip("netns", "add", name)
        ip(*f"link add {name} type veth peer name eth0 netns {name}".split())
        ip("link", "set", name, "master", self._bridge, "up")
        ip("-n", name, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", name, "link", "set", device, "up")

    def _inside(self, host: str, *command: str) -> list[str]:
        named = f'hostname {host} && exec "$@"'
        inside = ["ip", "netns", "exec", self._namespace(host)]
        own = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*inside, *own, "sh", "-c", named, "sh", *command]

    def _command(self, host: str) -> list[str]:
        mine = f"--node-ip-address={self.address(host)}"
        match host:
            case "database":
                settings = [f"listen_addresses={self.address(host)}", "unix_socket_directories="]
                flags = [part for setting in settings for part in ("-c", setting)]
                return _as_owner(self._data, "postgres", "-D", str(self._data), *flags)
            case "head":
                listen = [f"--port={RAY}", "--dashboard-host=0.0.0.0"]
                files = f"--temp-dir={self.folder / 'ray'}"
                return ["ray", "start", "--head", mine, *listen, files, *RAY_NODE]
            case "worker":
                head = f"--address={self.address('head')}:{RAY}"
                return ["ray", "start", head, mine, *RAY_NODE]
            case _:
                serve = ["serve", "--host", "0.0.0.0", "--port", str(API)]
                head = f"http://{self.address('head')}:{DASHBOARD}"
                return ["nas", *serve, "--ray", head]

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "NAS_HOME": str(self.home),
            "NAS_STORE": self.store,
            "PGPASSWORD": self.password,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "ray_token"),
            "RAY_USAGE_STATS_ENABLED": "0",
            # a node that cannot be reached is dead after about 15 seconds, not after 65
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    @property
    def _data(self) -> Path:
        return self.folder / "database"

    def _write_state(self) -> None:
        (self.folder / STATE).touch(0o600)
        (self.folder / STATE).write_text(json.dumps(asdict(self), default=str))

    def _write_secrets(self) -> None:
        for name, secret in (("password", self.password), ("ray_token", self.ray_token)):
            (self.folder / name).touch(0o600)
            (self.folder / name).write_text(secret + "\n")

    def _make_database(self) -> None:
        self._data.mkdir(mode=0o700)
        password = self.folder / "password"
        for path in (self._data, password):
            shutil.chown(path, "postgres", "postgres")
        options = ["--username=nas", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        made = _as_owner(self._data, "initdb", "-D", str(self._data), *options)
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all nas 198.18.{self.number}.0/24 scram-sha-256\n")


def _as_owner(data: Path, program: str, *arguments: str) -> list[str]:
    """A command of PostgreSQL as the user who owns its data: it refuses to run as root."""
    folder = _postgres_folder()
    assert folder is not None
    user = f"--reuid={data.stat().st_uid}"
    return [
        *("setpriv", user, f"--regid={data.stat().st_gid}", "--clear-groups"),
        *(str(folder / program), *arguments),
    ]


def _postgres_folder() -> Path | None:
    found = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    paths = [Path(found)] if found else installed[-1:]
    return paths[0].resolve().parent if paths else None


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.topology", description=__doc__)
    parser.add_argument("what", choices=["up", "down", "cut", "restore", "kill", "stop", "start"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("host", nargs="?", choices=HOSTS)
    given = parser.parse_args()
    if given.what == "up":
        if (reason := obstacle()) is not None:
            parser.error(reason)
        new = Topology.up()
        print(json.dumps({**asdict(new), "url": new.url, "store": new.store}, default=str))
        return
    if given.folder is None or (given.host is None and given.what != "down"):
        parser.error("name the folder that `up` printed, and but for `down` a host")
    topology = Topology.found(given.folder)
    arguments = () if given.what == "down" else (given.host,)
    getattr(topology, given.what)(*arguments)


if __name__ == "__main__":
    main()
