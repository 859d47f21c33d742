"""Data sets sent by clients: kept by content, or refused whole."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from nas.client import Client
from nas.core import InvalidInputError
from nas.service import Server, ServiceSettings
from tests.service.conftest import SPEC


def images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder


def archive(members: dict[str, bytes], link: str | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if name == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, content)
    return out.getvalue()


def put(server: Server, content: bytes, digest: str | None = None) -> httpx.Response:
    name = digest or hashlib.sha256(content).hexdigest()
    return httpx.put(f"{server.url}/v1/datasets/{name}", content=content)


def kept(server: Server) -> list[str]:
    return [p.name for p in server.settings.uploads.glob("*")]


def test_a_folder_of_images_becomes_a_jobs_data(
    server: Server, client: Client, tmp_path: Path
) -> None:
    folder = images(tmp_path / "pets")
    job = client.submit(**{**SPEC, "data": str(folder)})
    source = client.upload(folder)
    assert job.job.spec["data"] == source
    assert [d["source"] for d in client.datasets() if d["digest"]] == [source]
    assert len(kept(server)) == 1


def test_an_archive_of_arrays_is_sent_once(server: Server, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.random((60, 8, 8), dtype=np.float32), y=np.arange(60) % 3)
    assert client.upload(path) == client.upload(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert kept(server) == [f"{digest}.npz"]


PNG = io.BytesIO()
Image.fromarray(np.zeros((8, 8), np.uint8)).save(PNG, "png")


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all",
        archive({"../escape.png": PNG.getvalue()}),
        archive({"/etc/cat/1.png": PNG.getvalue()}),
        archive({"cat/1.png": b"/etc/passwd"}, link="cat/1.png"),
        archive({"1.png": PNG.getvalue()}),
        archive({"cat/1.png": b"not a picture"}),
        archive({"readme.txt": b"nothing"}),
        archive({"x.npy": b"broken"}),
    ],
    ids=["bytes", "dots", "absolute", "link", "no class", "no image", "no images", "broken npy"],
)
def test_what_is_no_data_set_leaves_nothing_behind(server: Server, content: bytes) -> None:
    answer = put(server, content)
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"]["field"].startswith("data")
    assert kept(server) == []
    assert not list(server.workspace.home.parent.rglob("escape.png"))


def test_pickled_arrays_are_not_read(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, x=np.array([{"a": 1}] * 60, dtype=object), y=np.arange(60) % 3)
    assert put(server, path.read_bytes()).status_code == 422
    assert kept(server) == []


def test_bytes_of_another_digest_are_refused(server: Server) -> None:
    assert put(server, b"abc", "0" * 64).json()["error"]["field"] == "digest"
    assert put(server, b"abc", "../../etc").status_code in (404, 405)
    assert put(server, b"abc", "short").status_code == 422
    assert kept(server) == []


def test_bombs_and_giants_are_refused(tmp_path: Path) -> None:
    limits = ServiceSettings(tmp_path / "home", port=0, supervise=False, largest_upload=200_000)
    bomb = archive({"cat/1.png": b"\0" * 5_000_000})
    assert len(bomb) < 20_000
    with Server(limits) as server:
        for content in (bomb, bytes(300_000)):
            answer = put(server, content)
            assert answer.status_code == 413, answer.text
        assert kept(server) == []


def test_a_path_that_is_not_there_is_refused_here(client: Client) -> None:
    with pytest.raises(InvalidInputError, match="exists"):
        client.upload("no/such/file.npz")
