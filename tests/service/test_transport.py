"""What the client repeats where a connection breaks."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from nas.client import ServerError
from nas.client.transport import Transport


class Breaking(ThreadingHTTPServer):
    """Breaks the first connections off in the middle of the body; keeps what came whole."""

    def __init__(self, n_broken: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.n_broken = n_broken
        self.bodies: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    server: Breaking

    def do_PUT(self) -> None:
        if self.server.n_broken:
            self.server.n_broken -= 1
            self.rfile.read(10)
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.do_PUT()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def breaking() -> Iterator[Breaking]:
    with Breaking(n_broken=1) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def transport(breaking: Breaking, tmp_path: Path) -> Transport:
    return Transport(f"http://127.0.0.1:{breaking.server_port}", None, True, tmp_path)


def test_a_file_is_sent_again_from_its_beginning(
    breaking: Breaking, transport: Transport, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 40
    (tmp_path / "data.npz").write_bytes(content)
    transport.request("PUT", "/datasets/x", file=tmp_path / "data.npz")
    assert breaking.bodies == [content]


def test_what_might_act_twice_is_not_repeated(breaking: Breaking, transport: Transport) -> None:
    with pytest.raises(ServerError, match="no answer"):
        transport.request("POST", "/jobs/1/extend", json={"trials": 5})
    assert breaking.bodies == []
