"""A running server: the application, its supervisor, and the cluster it may start."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn

from nas.core import InvalidInputError
from nas.jobs import terminable
from nas.service.app import create_app
from nas.service.cluster import LocalCluster
from nas.service.context import Service
from nas.service.launchers import Launcher, Processes, RayJobs
from nas.service.settings import ServiceSettings
from nas.service.supervisor import Supervisor
from nas.workspace import Workspace

logger = logging.getLogger(__name__)
START_SECONDS = 30.0


class Server:
    """Serves until it is closed; a context manager that serves in a thread.

    Args:
        settings: how.

    Raises:
        InvalidInputError: an address beyond loopback without any token, or a port in use.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.workspace = Workspace.open(settings.home, settings.store)
        if not settings.is_loopback and not self.workspace.store.accounts().has_tokens():
            expected = "a loopback address, or make a token first: nas token create"
            raise InvalidInputError("host", settings.host, expected)
        self.app = create_app(settings, self.workspace)
        self._resources = contextlib.ExitStack()
        self._resources.callback(self.app.state.service.tables.close)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self.app,
                host=settings.host,
                port=settings.port,
                log_level="warning",
                access_log=False,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                timeout_graceful_shutdown=5,
                lifespan="off",
                server_header=False,
            )
        )
        self._thread: threading.Thread | None = None
        self._port = settings.port

    @property
    def url(self) -> str:
        """Where it answers, once it serves."""
        scheme = "https" if self.settings.tls_certificate else "http"
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"{scheme}://{host}:{self._port}"

    @property
    def needs_token(self) -> bool:
        """Whether requests without a token are refused."""
        return bool(self.app.state.service.needs_token)

    def serve(self, announce: Callable[[str, str | None], None]) -> None:
        """Serve in this thread until a signal.

        Args:
            announce: told, before the first request, the URL and that of Ray's dashboard.
        """
        with contextlib.suppress(KeyboardInterrupt), terminable(), self._resources:
            listening = self._listen()
            ray = self._supervise()
            announce(self.url, ray)
            self._uvicorn.run([listening])  # raises anew the signal that ended it

    def __enter__(self) -> Self:
        """Serve in a thread; returns when requests are answered."""
        listening = self._listen()
        self._supervise()
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([listening],), name="server", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + START_SECONDS
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self.close()
                raise InvalidInputError("server", self.url, "one that starts; its log tells more")
            time.sleep(0.01)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self.close()

    def close(self) -> None:
        """Stop serving, then the supervisor and what it started; closing twice is fine."""
        self.app.state.service.closing.set()
        self._uvicorn.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._resources.close()

    def _listen(self) -> socket.socket:
        """Take the port before anything else is started.

        Raises:
            InvalidInputError: it is taken, or there is no such address here.
        """
        host, port = self.settings.host, self.settings.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # without the protocol asyncio does not set TCP_NODELAY: answers would wait for 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            listening.close()
            expected = f"an address of this machine and a free port ({error.strerror or error})"
            raise InvalidInputError("host and port", f"{host}:{port}", expected) from None
        self._port = int(listening.getsockname()[1])
        self._resources.callback(listening.close)
        return listening

    def _supervise(self) -> str | None:
        """Start looking after jobs; gives the address of Ray's dashboard where there is one."""
        settings = self.settings
        if not settings.supervise:
            return None
        launcher, address = self._launcher()
        service: Service = self.app.state.service
        service.launcher, service.dashboard = launcher, address
        supervisor = Supervisor(
            self.workspace.store,
            launcher,
            settings.running_jobs,
            settings.running_per_owner,
        )
        self._resources.callback(supervisor.close)
        supervisor.start()
        return address

    def _launcher(self) -> tuple[Launcher, str | None]:
        settings, home, store = self.settings, self.workspace.home, self.workspace.store_url
        if settings.ray == "local":
            return Processes(home, store, settings.workers), None
        if settings.ray != "auto":
            return RayJobs(home, lambda: settings.ray), settings.ray
        cluster = LocalCluster(home, store, settings.workers)
        self._resources.callback(cluster.close)
        return RayJobs(home, cluster.ensure, sys.executable), cluster.ensure()
