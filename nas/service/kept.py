"""Columns of finished trials as files, so that a server that starts anew need not read the log."""

from __future__ import annotations

import json
import logging
import zipfile
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from nas.core import TrialStore
from nas.service.outcomes import Growing
from workers.writing import written_whole

logger = logging.getLogger(__name__)

FILE = "columns.npz"
"""In a job's folder; goes with it."""
VERSION = 1
PLAIN = ("number", "at", "seconds", "effort", "completed", "fidelity")
LEAST_ROWS = 10_000
"""Fewer are read from the log as fast."""
LEAST_GROWTH = 0.2
"""By which columns grow before they are written again."""


def is_due(n_rows: int, n_kept: int) -> bool:
    """Whether `n_rows` should be written where the file has `n_kept`."""
    return n_rows - n_kept >= max(LEAST_ROWS, LEAST_GROWTH * n_kept)


def keep(growing: Growing, path: Path) -> None:
    """Write the columns, whole or not at all; a folder that is full or away is no error."""
    about = {
        "version": VERSION,
        "sequence": growing.sequence,
        "errors": {str(i): error for i, error in growing.errors.items()},
        "metrics": list(growing.metrics),
        "codes": {name: list(codes) for name, codes in growing.codes.items()},
    }
    columns = {
        **{name: np.asarray(getattr(growing, name)) for name in PLAIN},
        **{f"metric {i}": np.asarray(c) for i, c in enumerate(growing.metrics.values())},
        **{f"decision {i}": np.asarray(growing.decisions[n]) for i, n in enumerate(growing.codes)},
        "keys": np.array(growing.keys, dtype=np.str_),
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
    except OSError as error:
        logger.warning("columns are not kept at %s: %s", path, error)


def take_up(growing: Growing, path: Path, store: TrialStore) -> int:
    """Fill empty columns from a file; gives their number of rows, 0 where none can be used.

    A file of another log, such as one before the database was restored from a copy, is not used:
    its last event must be in the log, at the same time.
    """
    if not path.is_file():
        return 0
    try:
        with np.load(path, allow_pickle=False) as kept:
            about = json.loads(kept["about"].tobytes())
            if about["version"] != VERSION or not _is_of(about["sequence"], kept["at"], store):
                return 0
            _fill(growing, kept, about)
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as error:
        logger.warning("columns at %s are not usable: %s", path, error)
        return 0
    return len(growing)


def _is_of(sequence: int, at: Any, store: TrialStore) -> bool:
    last = store.events(sequence - 1, 1)
    return bool(last and last[0].sequence == sequence and last[0].at == at[-1])


def _fill(growing: Growing, kept: Any, about: Any) -> None:
    def column(name: str, code: str) -> Any:
        found = array(code)
        found.frombytes(kept[name].tobytes())
        return found

    plain = {name: column(name, getattr(growing, name).typecode) for name in PLAIN}
    metrics = {name: column(f"metric {i}", "d") for i, name in enumerate(about["metrics"])}
    decisions = {name: column(f"decision {i}", "q") for i, name in enumerate(about["codes"])}
    keys = kept["keys"].tolist()
    for name, found in plain.items():
        setattr(growing, name, found)
    growing.metrics, growing.decisions, growing.keys = metrics, decisions, keys
    growing.errors = {int(i): error for i, error in about["errors"].items()}
    growing.codes = {
        name: {value: code for code, value in enumerate(values)}
        for name, values in about["codes"].items()
    }
    growing.sequence = about["sequence"]
