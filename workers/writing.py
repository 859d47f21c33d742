"""Files that are written whole or not at all, and disks that are full."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.core import OutOfSpaceError

ENOUGH_BYTES = 8 * 2**20


@contextmanager
def needing_space(folder: Path) -> Iterator[None]:
    """Tell errors of a full disk from others while the block writes below `folder`.

    Raises:
        OutOfSpaceError: the block failed, and less than 8 MiB are free.
    """
    try:
        yield
    except Exception as error:
        place = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(place).free
        if free >= ENOUGH_BYTES:
            raise
        raise OutOfSpaceError(f"{free / 2**20:.1f} MiB are free below {place}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
