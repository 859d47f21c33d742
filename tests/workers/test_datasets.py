from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.core import InvalidInputError
from workers.datasets import load_dataset


def test_digits_are_split_fixedly_and_without_overlap() -> None:
    data = load_dataset("digits")
    assert data.input_shape == (1, 8, 8)
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (1151, 287, 359)
    assert data.n_classes == 10
    parts = [{x.tobytes() for x in part} for part in (data.x_train, data.x_val, data.x_test)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert load_dataset("digits").digest == data.digest != load_dataset("digits", 1).digest
    assert abs(data.x_train.mean()) < 1e-4
    for labels in (data.y_train, data.y_val, data.y_test):
        assert np.bincount(labels).min() >= 0.08 * len(labels)


@pytest.mark.parametrize("shape", [(60, 9, 7), (60, 9, 7, 3), (60, 3, 9, 7), (60, 9, 7, 1)])
def test_npz_images_of_any_layout_become_channels_first(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    path = tmp_path / "d.npz"
    np.savez(path, x=x, y=np.arange(60) % 3)
    data = load_dataset(str(path))
    assert data.input_shape == (3 if 3 in shape[1:] else 1, 9, 7)
    assert len(load_dataset(str(path), limit=30).x_train) < len(data.x_train)


def test_a_given_test_split_is_kept(tmp_path: Path) -> None:
    x = np.arange(40 * 25, dtype=np.float32).reshape(40, 5, 5)
    path = tmp_path / "d.npz"
    np.savez(
        path, x_train=x[:30], y_train=np.arange(30) % 2, x_test=x[30:], y_test=np.arange(10) % 2
    )
    data = load_dataset(str(path))
    assert len(data.x_test) == 10
    assert len(data.x_train) + len(data.x_val) == 30


GOOD = {"x": np.zeros((20, 5, 5)), "y": np.arange(20) % 2}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GOOD["x"]}, "x_train, y_train"),
        ({**GOOD, "x_test": GOOD["x"]}, "x_test, y_test"),
        ({**GOOD, "y_test": GOOD["y"]}, "x_test, y_test"),
        ({"x_train": GOOD["x"], "y": GOOD["y"]}, "x_train, y_train"),
        ({**GOOD, "x": np.zeros((20, 5))}, r"\(n, H, W"),
        ({**GOOD, "y": np.zeros(19, dtype=int)}, "one per image"),
        ({**GOOD, "y": np.zeros(20)}, "whole numbers"),
        ({**GOOD, "x": np.full((20, 5, 5), np.nan)}, "finite"),
        ({**GOOD, "y": np.zeros(20, dtype=int)}, "without gaps"),
        ({**GOOD, "y": np.arange(20) % 2 * 2}, "without gaps"),
        ({**GOOD, "x": np.array([object()] * 20)}, "readable"),
    ],
)
def test_malformed_arrays_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match=message):
        load_dataset(str(path))


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with pytest.raises(InvalidInputError, match="there is no file"):
        load_dataset(str(path))
    path.write_text("not a zip")
    with pytest.raises(InvalidInputError, match="readable"):
        load_dataset(str(path))
    with pytest.raises(InvalidInputError, match="digits, mnist, cifar10-subset, a folder"):
        load_dataset("imagenet")


def test_mnist_loads_from_the_data_folder(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_folder / "mnist.npz").is_file():
        pytest.skip("mnist.npz is absent")
    monkeypatch.setenv("NAS_DATA", str(data_folder))
    data = load_dataset("mnist", limit=2000)
    assert data.input_shape == (1, 28, 28)
    assert len(data.x_train) + len(data.x_val) == 2000


def test_a_folder_of_images_is_read_class_by_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("cat", 30), ("dog", 200)):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = rng.integers(level - 20, level + 20, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    data = load_dataset(str(tmp_path))
    assert data.input_shape == (3, 6, 5)
    assert (data.x_train.mean((1, 2, 3)) > 0).tolist() == (data.y_train == 1).tolist()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "dog" / "small.png")
    with pytest.raises(InvalidInputError, match="images of one size"):
        load_dataset(str(tmp_path))


def test_a_folder_without_images_and_broken_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="folder/<class>/<image>"):
        load_dataset(str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_text("no image")
    with pytest.raises(InvalidInputError, match=r"x\.png"):
        load_dataset(str(tmp_path))


def test_jpeg_bytes_in_an_archive_are_decoded(tmp_path: Path) -> None:
    payload, offsets = b"", [0]
    for i in range(20):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8), (i * 10, 0, 0)).save(buffer, "JPEG", quality=95)
        payload += buffer.getvalue()
        offsets.append(len(payload))
    path = tmp_path / "j.npz"
    arrays = {"train_jpeg": np.frombuffer(payload, np.uint8), "train_offset": np.array(offsets)}
    labels = np.arange(20) % 2
    np.savez(path, **arrays, train_label=labels)
    assert load_dataset(str(path)).input_shape == (3, 8, 8)
    np.savez(path, **arrays)
    with pytest.raises(InvalidInputError, match="train_label"):
        load_dataset(str(path))
    arrays["train_jpeg"] = np.zeros(len(payload), np.uint8)
    np.savez(path, **arrays, train_label=labels)
    with pytest.raises(InvalidInputError, match="jpeg bytes"):
        load_dataset(str(path))


def test_the_colour_subset_loads_from_the_data_folder(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (data_folder / "cifar10_subset_jpeg.npz").is_file():
        pytest.skip("cifar10_subset_jpeg.npz is absent")
    monkeypatch.setenv("NAS_DATA", str(data_folder))
    data = load_dataset("cifar10-subset", limit=500)
    assert data.input_shape == (3, 32, 32)
    assert data.n_classes == 10
