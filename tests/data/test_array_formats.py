"""IDX, digits, npz and the shipped sample: what is read is what was written, and what is wrong is said."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.core.errors import AuditError, DataError, UsageError
from audit.core.resources import resource_dir
from audit.data.formats.idx import read_idx
from audit.data.load import load_dataset

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return struct.pack(">HBB", 0, 8, array.ndim) + sizes + array.astype(np.uint8).tobytes()


def images(n: int, size: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size)).astype(np.uint8)


def write_mnist(base: Path, *, packed: bool, train: bool = True) -> None:
    base.mkdir(parents=True, exist_ok=True)
    for part, n in (("t10k", 10), ("train", 20)):
        if part == "train" and not train:
            continue
        for stem, array in (("images-idx3", images(n)), ("labels-idx1", np.arange(n) % 10)):
            body = idx(array)
            name = base / f"{part}-{stem}-ubyte{'.gz' if packed else ''}"
            name.write_bytes(gzip.compress(body) if packed else body)


def test_the_sample_ships_balanced_and_small() -> None:
    sample = load_dataset("sample")
    assert sample.shape == (1, 28, 28) and sample.classes[8] == "Bag" and sample.notes == ()
    assert sample.train is not None and (len(sample.train), len(sample.test)) == (6000, 1000)
    assert np.bincount(sample.test.labels).tolist() == [100] * 10
    assert np.bincount(sample.train.labels).tolist() == [600] * 10
    files = list((resource_dir("samples") / "fashion-mnist").iterdir())
    assert sum(file.stat().st_size for file in files) <= 4 << 20
    assert "Zalando" in (resource_dir("samples") / "fashion-mnist" / "LICENSE").read_text()


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_sample_is_cut_out_of_the_full_set_as_its_script_says(tmp_path: Path) -> None:
    script = resource_dir("samples") / "fashion-mnist" / "subset.py"
    subprocess.run([sys.executable, str(script), str(DEBIAN), str(tmp_path)], check=True)
    for made in tmp_path.iterdir():
        assert np.array_equal(read_idx(made), read_idx(script.parent / made.name))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_full_set_loads_and_holds_the_sample() -> None:
    full, sample = load_dataset(f"fashion-mnist:{DEBIAN}"), load_dataset("sample")
    assert full.train is not None and (len(full.train), len(full.test)) == (60_000, 10_000)
    first_bags = np.flatnonzero(full.test.labels == 8)[:100]
    sample_bags = np.flatnonzero(sample.test.labels == 8)
    assert torch.equal(full.test.batch(first_bags).images, sample.test.batch(sample_bags).images)


def test_digits_are_all_there_on_the_scale_of_other_images() -> None:
    digits = load_dataset("digits")
    assert digits.train is not None and len(digits.train) + len(digits.test) == 1797
    batch = digits.test.batch(slice(None))
    assert batch.images.shape == (360, 1, 8, 8) and batch.images.min() == 0 and batch.images.max() == 1
    assert torch.allclose(batch.images * 16, (batch.images * 16).round(), atol=0.04)


@pytest.mark.parametrize("layout", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_found_in_every_layout(layout: str, packed: bool, tmp_path: Path) -> None:
    write_mnist(tmp_path / layout, packed=packed)
    data = load_dataset(f"mnist:{tmp_path}")
    assert data.train is not None and len(data.train) == 20
    batch = data.test.batch([2, 0])
    assert torch.equal(batch.images[0, 0], torch.from_numpy(images(10)[2]) / 255)
    assert batch.labels.tolist() == [2, 0] and batch.ids == ("test/00002", "test/00000")


def test_the_fingerprint_follows_content_and_not_place_or_packing(tmp_path: Path) -> None:
    write_mnist(tmp_path / "a", packed=True)
    write_mnist(tmp_path / "b" / "raw", packed=False)
    first, second = (load_dataset(f"mnist:{tmp_path / name}") for name in "ab")
    assert first.test.fingerprint == second.test.fingerprint
    assert str(tmp_path) not in first.name + "".join(first.test.ids)
    (tmp_path / "a" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(10))))
    assert load_dataset(f"mnist:{tmp_path / 'a'}").test.fingerprint != second.test.fingerprint
    assert first.test.subset(np.array([1, 2])).fingerprint != first.test.fingerprint


def test_a_missing_training_part_is_said(tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=True, train=False)
    data = load_dataset(f"mnist:{tmp_path}")
    assert data.train is None and "no training images" in str(data.notes[0])


def spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda base: (base / name).write_bytes(change((base / name).read_bytes()))


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
BROKEN_IDX: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "no labels": (lambda base: (base / LABELS).unlink(), "is missing"),
    "truncated": (spoil(IMAGES, lambda b: b[:-7]), "damaged"),
    "a header alone": (spoil(IMAGES, lambda b: b[:9]), "damaged"),
    "text": (spoil(IMAGES, lambda b: b"<html>404</html>"), "not an IDX file"),
    "empty": (spoil(IMAGES, lambda b: b""), "not an IDX file"),
    "half a gzip": (spoil(IMAGES, lambda b: gzip.compress(b)[:60]), "cannot be read"),
    "label 10": (spoil(LABELS, lambda b: b[:-1] + b"\x0a"), "label 10 at position 9"),
    "fewer labels": (spoil(LABELS, lambda b: idx(np.zeros(9))), "10 images but 9 labels"),
    "no images": (
        lambda base: [
            (base / n).write_bytes(idx(a)) for n, a in ((IMAGES, np.zeros((0, 5, 5))), (LABELS, np.zeros(0)))
        ],
        "holds no images",
    ),
}


@pytest.mark.parametrize("case", BROKEN_IDX)
def test_a_broken_idx_folder_gets_a_sentence(case: str, tmp_path: Path) -> None:
    write_mnist(tmp_path, packed=False)
    BROKEN_IDX[case][0](tmp_path)
    with pytest.raises(DataError, match=BROKEN_IDX[case][1]):
        load_dataset(f"mnist:{tmp_path}")


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return f"npz:{path}"


def test_npz_in_keras_layout_gives_both_parts_with_names(tmp_path: Path) -> None:
    x, y = images(6), np.array([[0], [1], [2]] * 2)
    data = load_dataset(
        npz(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:3], y_test=y[:3], classes=np.array(["a", "b", "c"]))
    )
    assert data.classes == ("a", "b", "c") and data.train is not None and len(data.train) == 6
    assert data.name == "d.npz" and data.shape == (1, 5, 5)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("kind", ["uint8", "float64", "int64"])
def test_npz_in_any_layout_and_type_gives_the_same_images(layout: str, kind: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (4, 6, 7, 3))
    array = pixels.transpose(0, 3, 1, 2) if layout == "NCHW" else pixels
    typed = array / 255 if kind == "float64" else array.astype(kind)
    data = load_dataset(npz(tmp_path / "d.npz", images=typed, labels=np.arange(4)))
    images_read = data.test.batch(slice(None)).images
    assert data.shape == (3, 6, 7) and images_read.dtype == torch.float32
    assert torch.allclose(images_read, torch.from_numpy(pixels.transpose(0, 3, 1, 2)) / 255, atol=1e-6)


BROKEN_NPZ: Mapping[str, tuple[dict[str, Any], str]] = {
    "no known names": ({"a": np.zeros(3)}, "holds the arrays a"),
    "soft labels": ({"images": images(4), "labels": np.eye(4) * 0.9}, "rows with a single 1"),
    "rows of several ones": ({"images": images(4), "labels": np.ones((4, 4))}, "rows with a single 1"),
    "float labels": ({"images": images(4), "labels": np.arange(4) / 2}, "integers from 0"),
    "negative labels": ({"images": images(4), "labels": np.array([0, 1, -2, 2])}, "label -2 is negative"),
    "one class": ({"images": images(4), "labels": np.zeros(4, int)}, "at least two classes"),
    "label beyond names": (
        {"images": images(4), "labels": np.arange(4), "classes": np.array(["a", "b"])},
        "the label is 3; 0 to 1 was expected",
    ),
    "doubled names": (
        {"images": images(2), "labels": np.arange(2), "classes": np.array(["a", "a"])},
        "different names",
    ),
    "four channels": ({"images": np.zeros((2, 5, 5, 4), np.uint8), "labels": np.arange(2)}, "1 or 3 channels"),
    "normalised pixels": ({"images": np.full((2, 5, 5), -0.4), "labels": np.arange(2)}, "Undo any normalisation"),
    "NaN pixels": ({"images": np.full((2, 5, 5), np.nan), "labels": np.arange(2)}, "50 of 50 pixel values are NaN"),
    "text pixels": ({"images": np.full((2, 5, 5), "x"), "labels": np.arange(2)}, "pixels of type"),
    "objects": ({"images": np.array([{}, {}], dtype=object), "labels": np.arange(2)}, "could run code"),
    "lengths": ({"images": images(4), "labels": np.arange(3)}, "4 images but 3 labels"),
}


@pytest.mark.parametrize("case", BROKEN_NPZ)
def test_a_broken_npz_gets_a_sentence(case: str, tmp_path: Path) -> None:
    arrays, message = BROKEN_NPZ[case]
    with pytest.raises(DataError, match=message):
        load_dataset(npz(tmp_path / "d.npz", **arrays))


@pytest.mark.parametrize("body", [b"", b"no zip", b"PK\x03\x04 and no more"])
def test_a_damaged_npz_gets_a_sentence(body: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(body)
    with pytest.raises(DataError, match=r"d\.npz is not a whole"):
        load_dataset(f"npz:{tmp_path / 'd.npz'}")


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("fashion_mnist:x", UsageError, "Did you mean 'fashion-mnist:DIR'"),
        ("", UsageError, "Known: "),
        ("mnist", DataError, "write mnist:DIR"),
        ("sample:x", DataError, "takes no place"),
        ("mnist:/nowhere/at/all", DataError, "No folder"),
        ("npz:/nowhere.npz", DataError, "No file"),
    ],
)
def test_a_wrong_source_is_a_sentence(source: str, kind: type[AuditError], message: str) -> None:
    with pytest.raises(kind, match=message):
        load_dataset(source)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
        load_dataset(f"fashion-mnist:{tmp_path}")
