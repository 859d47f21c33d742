"""Data sets that clients send: named by their contents, checked before they are kept."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from starlette.concurrency import run_in_threadpool

from nas.core import InvalidInputError
from nas.service.errors import TooLargeError
from workers.datasets import UPLOAD, load_dataset, uploaded
from workers.images import SUFFIXES

MOST_FILES = 1_000_000
DIGEST = re.compile(r"[0-9a-f]{64}")


async def receive(
    folder: Path, digest: str, chunks: AsyncIterator[bytes], largest: int
) -> tuple[str, int]:
    """Keep an upload below `folder` under its digest; returns its source name and size.

    It is an `.npz` of images and labels, or a zip archive of `<class>/<image>`; it is kept only if
    it loads as a data set.

    Args:
        folder: of all uploads.
        digest: SHA-256 of the bytes, hexadecimal.
        chunks: the bytes.
        largest: bytes, as sent and as unpacked.

    Raises:
        InvalidInputError: bytes of another digest, or no such data set.
        TooLargeError: more than `largest`.
    """
    if DIGEST.fullmatch(digest) is None:
        raise InvalidInputError("digest", digest, "SHA-256 as 64 hexadecimal digits")
    folder.mkdir(parents=True, exist_ok=True)
    size, found = 0, hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as scratch:
        sent = Path(scratch) / "sent"
        with sent.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > largest:
                    raise TooLargeError(f"a data set may have at most {largest} bytes")
                found.update(chunk)
                file.write(chunk)
        if found.hexdigest() != digest:
            raise InvalidInputError("digest", digest, f"that of the bytes, {found.hexdigest()}")
        if uploaded(folder, digest) is None:
            await run_in_threadpool(_keep, sent, folder, digest, largest)
    return f"{UPLOAD}{digest}", size


def uploads(folder: Path) -> list[tuple[str, int | None]]:
    """Digest and bytes of every upload; None for folders, whose files nobody wants to count."""
    if not folder.is_dir():
        return []
    kept = [p for p in sorted(folder.iterdir()) if DIGEST.fullmatch(p.stem)]
    return [(p.stem, p.stat().st_size if p.is_file() else None) for p in kept]


def _keep(sent: Path, folder: Path, digest: str, largest: int) -> None:
    """Unpack if need be, load once, and move to its place, whole or not at all."""
    try:
        with zipfile.ZipFile(sent) as archive:
            _refuse_bombs(archive, largest)
            arrays = any(name.endswith(".npy") for name in archive.namelist())
            if not arrays:
                place = sent.parent / "images"
                _unpack(archive, place)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        expected = f"an .npz, or a zip archive of <class>/<image> ({error})"
        raise InvalidInputError("data set", digest, expected) from None
    if arrays:
        place = sent.rename(sent.with_name("sent.npz"))
    load_dataset(str(place))
    target = folder / (f"{digest}.npz" if arrays else digest)
    try:
        place.rename(target)
    except OSError:  # another request was faster
        if not target.exists():
            raise


def _refuse_bombs(archive: zipfile.ZipFile, largest: int) -> None:
    members = archive.infolist()
    if len(members) > MOST_FILES:
        raise TooLargeError(f"an archive may have at most {MOST_FILES} files")
    if sum(member.file_size for member in members) > largest:
        raise TooLargeError(f"a data set may have at most {largest} bytes when unpacked")


def _unpack(archive: zipfile.ZipFile, place: Path) -> None:
    """Write `<class>/<image>` files, wherever the archive wants them, below `place`.

    Raises:
        InvalidInputError: a path that leaves the archive, a link, or a file that is longer than
            the archive says.
    """
    for member in archive.infolist():
        path = PurePosixPath(member.filename)
        if member.is_dir() or path.suffix.lower() not in SUFFIXES:
            continue
        linked = stat.S_ISLNK(member.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or linked:
            raise InvalidInputError("data set", member.filename, "a path inside the archive")
        if len(path.parts) < 2:
            raise InvalidInputError("data set", member.filename, "<class>/<image>")
        target = place / path.parts[-2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    if not place.is_dir():
        raise InvalidInputError("data set", "archive", f"images: {', '.join(SUFFIXES)}")
