"""Reading encoded images: folders of files, and JPEG bytes inside an archive."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.core import InvalidInputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
Arrays = dict[str, NDArray[np.generic]]


def read_folder(folder: Path) -> Arrays:
    """`x` and `y` of `folder/<class>/<image>`; classes are numbered in the order of their names.

    Raises:
        InvalidInputError: no images, or images of different sizes.
    """
    from PIL import Image, UnidentifiedImageError

    classes = sorted(p for p in folder.iterdir() if p.is_dir())
    images, labels = [], []
    for label, of_class in enumerate(classes):
        for path in sorted(p for p in of_class.iterdir() if p.suffix.lower() in SUFFIXES):
            try:
                with Image.open(path) as image:
                    images.append(np.asarray(image if image.mode == "L" else image.convert("RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise InvalidInputError("data", str(path), f"a readable image ({error})") from None
            labels.append(label)
    if not images:
        raise InvalidInputError("data", str(folder), "a folder of classes: folder/<class>/<image>")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise InvalidInputError("data", str(folder), f"images of one size, not {sorted(shapes)}")
    return {"x": np.stack(images), "y": np.array(labels, dtype=np.int64)}


def decoded(arrays: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """`x_train` … of an archive with `train_jpeg`, `train_offset`, `train_label` (and `test_…`).

    Image i is the bytes from offset i to offset i + 1.

    Raises:
        InvalidInputError: offsets or bytes that are no images.
    """
    out: Arrays = {}
    for part in ("train", "test"):
        names = [f"{part}_{kind}" for kind in ("jpeg", "offset", "label")]
        if names[0] not in arrays:
            continue
        if not all(name in arrays for name in names):
            raise InvalidInputError("data", sorted(arrays), f"all of {', '.join(names)}")
        payload, offsets, labels = (arrays[name] for name in names)
        out[f"x_{part}"] = _decoded_images(payload, offsets)
        out[f"y_{part}"] = labels
    return out


def _decoded_images(
    payload: NDArray[np.generic], offsets: NDArray[np.generic]
) -> NDArray[np.generic]:
    from PIL import Image

    data = payload.tobytes()
    ends = [int(offset) for offset in offsets]
    try:
        images = [
            np.asarray(Image.open(io.BytesIO(data[start:end])).convert("RGB"))
            for start, end in pairwise(ends)
        ]
        return np.stack(images)
    except (OSError, ValueError) as error:
        raise InvalidInputError("data", "jpeg bytes", f"images of one size ({error})") from None
