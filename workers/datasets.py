"""Images and labels with fixed train, validation and test splits."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import InvalidInputError
from workers.images import decoded, read_folder

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
NAMED = {"mnist": "mnist.npz", "cifar10-subset": "cifar10_subset_jpeg.npz"}
"""Files in the data folder, by name."""

UPLOAD = "upload:"
"""Before the SHA-256 of a data set that a client sent."""

SHARE_HELD_OUT = 0.2
PATTERNS = "x_train, y_train (and x_test, y_test), or x, y"


@dataclass(frozen=True)
class Dataset:
    """Images `(n, C, H, W)` float32, standardised by the training images, and labels `(n,)`.

    Validation data drive a search; the test split is read once, for finalists.

    Attributes:
        name: what it was loaded as.
        digest: SHA-256 of contents and split.
    """

    name: str
    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels
    n_classes: int
    digest: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one image."""
        c, h, w = self.x_train.shape[1:]
        return int(c), int(h), int(w)


def data_folder() -> Path:
    """Where named data sets lie: `NAS_DATA`, else `~/.cache/nas`."""
    return Path(os.environ.get("NAS_DATA") or Path.home() / ".cache" / "nas")


def load_dataset(
    source: str, split_seed: int = 0, limit: int | None = None, uploads: Path | None = None
) -> Dataset:
    """Load `digits` (scikit-learn), a named file of the data folder, an `.npz`, or a folder.

    A folder holds `<class>/<image>`, images of one size. An `.npz` holds `x_train, y_train` (and
    `x_test, y_test`), or `x, y`; images are `(n, H, W)`, `(n, H, W, C)` or `(n, C, H, W)`. Where no
    test images are given, a fifth is held out for test; a fifth of the rest is held out for
    validation, stratified by label.

    Args:
        source: name or path.
        split_seed: of the shuffles behind the splits.
        limit: use at most this many training images, and test images, drawn before splitting.
        uploads: folder of the sources named `upload:<digest>`.

    Raises:
        InvalidInputError: no such data, or arrays that are not images and labels.
    """
    arrays = _read(source, uploads)
    rng = np.random.default_rng(split_seed)
    x, y, x_test, y_test = _tested(source, arrays, limit, rng)
    _check_labels(source, y, y_test)
    x_train, y_train, x_val, y_val = _split(x, y, rng)
    mean, std = x_train.mean(), max(float(x_train.std()), 1e-6)
    parts = [((part - mean) / std).astype(np.float32) for part in (x_train, x_val, x_test)]
    digest = hashlib.sha256()
    for array in (*parts, y_train, y_val, y_test):
        digest.update(np.ascontiguousarray(array).tobytes())
    n_classes = int(y.max()) + 1
    return Dataset(
        source, parts[0], y_train, parts[1], y_val, parts[2], y_test, n_classes, digest.hexdigest()
    )


def uploaded(folder: Path, digest: str) -> Path | None:
    """Where the upload of that SHA-256 lies, an `.npz` or a folder; None where there is none."""
    if re.fullmatch(r"[0-9a-f]{64}", digest) is None:
        return None
    return next((p for p in (folder / digest, folder / f"{digest}.npz") if p.exists()), None)


def _read(source: str, uploads: Path | None) -> dict[str, NDArray[np.generic]]:
    if source == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return {"x": bunch.images.astype(np.float32), "y": bunch.target.astype(np.int64)}
    path = data_folder() / NAMED[source] if source in NAMED else Path(source)
    if source.startswith(UPLOAD):
        found = uploaded(uploads, source.removeprefix(UPLOAD)) if uploads else None
        if found is None:
            raise InvalidInputError("data", source, "a data set that was uploaded to this server")
        path = found
    if path.is_dir():
        return read_folder(path)
    if path.suffix != ".npz":
        names = ", ".join(("digits", *NAMED))
        raise InvalidInputError("data", source, f"{names}, a folder of images or an .npz file")
    if not path.is_file():
        raise InvalidInputError("data", source, f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "train_jpeg" in archive.files:
                return decoded({name: archive[name] for name in archive.files})
            return {name: archive[name] for name in archive.files if name[0] in "xy"}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            "data", source, f"not a readable .npz of arrays ({error})"
        ) from None


def _tested(
    source: str, arrays: dict[str, NDArray[np.generic]], limit: int | None, rng: np.random.Generator
) -> tuple[Images, Labels, Images, Labels]:
    """What to learn from and what to test on: given so, or held out; each at most `limit`."""
    x, y = _pair(source, arrays, "_train" if "x_train" in arrays else "")
    if not {"x_test", "y_test"} & arrays.keys():
        return _split(*_limited(x, y, limit, rng), rng)
    x_test, y_test = _pair(source, arrays, "_test")
    if x_test.shape[1:] != x.shape[1:]:
        raise InvalidInputError("data", source, f"test images of shape {x.shape[1:]} too")
    return *_limited(x, y, limit, rng), *_limited(x_test, y_test, limit, rng)


def _pair(
    source: str, arrays: dict[str, NDArray[np.generic]], suffix: str
) -> tuple[Images, Labels]:
    """Images and labels of one part, checked; images as `(n, C, H, W)`."""
    names = f"x{suffix}", f"y{suffix}"
    if not set(names) <= arrays.keys():
        raise InvalidInputError("data", source, f"arrays {PATTERNS}; it has {sorted(arrays)}")
    x, y = (arrays[name] for name in names)
    if x.ndim not in (3, 4) or x.dtype.kind not in "uif":
        raise InvalidInputError(
            f"data {names[0]}", f"{x.dtype} {x.shape}", "numbers (n, H, W[, C])"
        )
    if y.shape != (len(x),) or y.dtype.kind not in "ui":
        expected = f"whole numbers, one per image: ({len(x)},)"
        raise InvalidInputError(f"data {names[1]}", f"{y.dtype} {y.shape}", expected)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise InvalidInputError(f"data {names[0]}", "nan or inf", "finite numbers")
    images = x.astype(np.float32)
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return images, y.astype(np.int64)


def _limited(
    x: Images, y: Labels, limit: int | None, rng: np.random.Generator
) -> tuple[Images, Labels]:
    if limit is None or limit >= len(x):
        return x, y
    chosen = np.sort(rng.permutation(len(x))[:limit])
    return x[chosen], y[chosen]


def _check_labels(source: str, y: Labels, y_test: Labels) -> None:
    classes = np.unique(y)
    if len(classes) < 2 or classes[0] != 0 or classes[-1] != len(classes) - 1:
        raise InvalidInputError("data labels", classes[:8].tolist(), "0, 1, 2 … without gaps")
    if not np.isin(y_test, classes).all():
        raise InvalidInputError("data y_test", source, "only labels that are in y_train")
    if np.bincount(y).min() < 2:
        raise InvalidInputError("data labels", source, "at least two images of every class")


def _split(x: Images, y: Labels, rng: np.random.Generator) -> tuple[Images, Labels, Images, Labels]:
    """Hold out a fifth of every class, at least one image each."""
    held = np.zeros(len(y), dtype=np.bool_)
    for label in np.unique(y):
        index = rng.permutation(np.flatnonzero(y == label))
        held[index[: max(1, round(len(index) * SHARE_HELD_OUT))]] = True
    return x[~held], y[~held], x[held], y[held]
