"""Folders of pictures and CIFAR-10: layouts, what is skipped and said, and reading on demand."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.core.errors import AuditError, DataError, UntrustedError
from audit.data.load import load_dataset

Pets = Callable[..., Path]


@pytest.mark.parametrize("test", ["test", "validation", "val", "Testing"])
def test_train_and_test_folders_give_both_parts(test: str, pets: Pets, paint: Any) -> None:
    data = load_dataset(f"folder:{pets(('train', test))}")
    assert data.name == "pets" and data.classes == ("cat", "dog") and data.shape == (3, 12, 16)
    assert data.train is not None and (len(data.train), len(data.test)) == (8, 8)
    assert data.test.ids[:2] == (f"{test}/cat/0.png", f"{test}/cat/1.png")
    batch = data.test.batch([5, 0])
    assert batch.labels.tolist() == [1, 0] and batch.ids == (f"{test}/dog/1.png", f"{test}/cat/0.png")
    expected = torch.from_numpy(paint(111).transpose(2, 0, 1)) / 255
    assert torch.equal(batch.images[0], expected)
    assert data.notes == ()


def test_test_comes_before_validation_which_is_told(pets: Pets) -> None:
    data = load_dataset(f"folder:{pets(('train', 'validation', 'test'))}")
    assert data.test.ids[0].startswith("test/") and "'validation' is not used" in str(data.notes[0])


def test_one_level_of_classes_is_all_test_and_said(pets: Pets) -> None:
    data = load_dataset(f"folder:{pets(('.',))}")
    assert data.train is None and data.test.ids[0] == "cat/0.png"
    assert "every image is used to test" in str(data.notes[0])


def test_a_wrapping_folder_is_seen_through(pets: Pets) -> None:
    root = pets(("deep/cats_and_dogs/train", "deep/cats_and_dogs/val"))
    data = load_dataset(f"folder:{root}")
    assert data.test.ids[0] == "val/cat/0.png" and "deep/cats_and_dogs" in str(data.notes[0])


def test_pictures_below_a_class_are_found_and_other_files_told(pets: Pets) -> None:
    root = pets(("train", "test"))
    nested = root / "test" / "cat" / "more" / "still"
    nested.mkdir(parents=True)
    shutil.copy(root / "test" / "cat" / "0.png", nested / "x.PNG")
    (root / "test" / "cat" / "readme.txt").write_text("hello")
    (root / "test" / "cat" / ".hidden.png").write_text("hello")
    (root / "__MACOSX").mkdir()
    os.symlink(root / "test", nested / "circle")
    data = load_dataset(f"folder:{root}")
    assert "test/cat/more/still/x.PNG" in data.test.ids
    assert any("1 .txt" in str(note) for note in data.notes)


def test_sizes_differ_the_commonest_wins_and_it_is_said(pets: Pets, paint: Any) -> None:
    root = pets(("train", "test"))
    Image.fromarray(paint(9, 30, 20)).save(root / "test" / "cat" / "0.png")
    data = load_dataset(f"folder:{root}")
    assert data.shape == (3, 12, 16)
    assert any("1 of 16 images were resized to 12x16, the commonest size (bil" in str(note) for note in data.notes)
    square = load_dataset(f"folder:{root}", image_size=10, grayscale=True)
    assert square.shape == (1, 10, 10) and any(
        "16 of 16 images were resized to 10x10 (bilinear, antialiased)." in str(note) for note in square.notes
    )
    assert square.test.batch([0, 1]).images.shape == (2, 1, 10, 10)


def test_grey_pictures_suggest_one_channel(pets: Pets) -> None:
    root = pets(("train", "test"))
    for path in root.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert any("--grayscale" in str(note) for note in load_dataset(f"folder:{root}").notes)
    assert load_dataset(f"folder:{root}", grayscale=True).notes == ()


def test_an_unreadable_picture_is_skipped_listed_and_strictly_an_error(pets: Pets) -> None:
    root = pets(("train", "test"))
    (root / "test" / "dog" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    data = load_dataset(f"folder:{root}")
    assert len(data.test) == 7 and "test/dog/2.png" not in data.test.ids
    assert data.notes[0].text.startswith("1 image is unreadable and was skipped: test/dog/2.png (")
    with pytest.raises(DataError, match=r"1 of 16 images are unreadable.*--strict.*test/dog/2\.png"):
        load_dataset(f"folder:{root}", strict=True)


def test_too_much_unreadable_is_an_error_anyway(pets: Pets) -> None:
    root = pets(("train", "test"))
    for path in (root / "test" / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="No image of class 'dog' in the test part"):
        load_dataset(f"folder:{root}")
    for path in root.rglob("[123].png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="over half"):
        load_dataset(f"folder:{root}")


def test_the_fingerprint_follows_content_names_and_size_not_the_place(pets: Pets, tmp_path: Path) -> None:
    root = pets(("train", "test"))
    moved = tmp_path / "elsewhere" / "pets"
    shutil.copytree(root, moved)
    first = load_dataset(f"folder:{root}").test.fingerprint
    assert load_dataset(f"folder:{moved}").test.fingerprint == first
    assert load_dataset(f"folder:{root}", image_size=8).test.fingerprint != first
    (moved / "test" / "cat" / "0.png").rename(moved / "test" / "cat" / "9.png")
    assert load_dataset(f"folder:{moved}").test.fingerprint != first
    shutil.copy(root / "test" / "cat" / "1.png", root / "test" / "cat" / "0.png")
    assert load_dataset(f"folder:{root}").test.fingerprint != first


def test_a_file_that_changes_during_a_run_is_noticed(pets: Pets) -> None:
    root = pets(("train", "test"))
    data = load_dataset(f"folder:{root}")
    shutil.copy(root / "test" / "cat" / "1.png", root / "test" / "cat" / "0.png")
    with pytest.raises(DataError, match="changed while it was in use"):
        data.test.batch([0])
    assert len(data.test.batch([1])) == 1
    (root / "test" / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match="is no more"):
        data.test.batch([0])


def test_images_are_read_when_asked_for_and_not_before(pets: Pets, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset(f"folder:{pets(('train', 'test'))}")
    reads: Counter[str] = Counter()
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.update([path.name]) or original(path))
    data.test.batch([3, 4])
    assert reads == {"3.png": 1, "0.png": 1}


def test_names_in_any_encoding_become_printable_ids(pets: Pets) -> None:
    root = pets(("train", "test"))
    raw = os.fsencode(root / "test" / "cat") + b"/caf\xe9.png"
    shutil.copy(root / "test" / "cat" / "0.png", os.fsdecode(raw))
    (root / "test" / "cat" / "1.png").rename(root / "test" / "cat" / "Übermut.png")
    data = load_dataset(f"folder:{root}")
    assert {"test/cat/caf\\xe9.png", "test/cat/Übermut.png"} <= set(data.test.ids)
    assert len(data.test.batch(slice(None))) == 9


def empty_class(root: Path) -> None:
    for path in (root / "train" / "dog").iterdir():
        path.unlink()


BROKEN: Mapping[str, tuple[Callable[[Path], Any], str]] = {
    "an empty class": (empty_class, "'train/dog' holds no images"),
    "a class never trained": (
        lambda r: shutil.copytree(r / "test/cat", r / "test/fox"),
        "class 'fox' that the training",
    ),
    "one class": (lambda r: [shutil.rmtree(r / part / "dog") for part in ("train", "test")], "holds 1 class folder;"),
    "train alone": (lambda r: shutil.rmtree(r / "test"), "training part alone"),
    "nothing": (lambda r: [shutil.rmtree(r / part) for part in ("train", "test")], "holds 0 class folders"),
    "huge": (
        lambda r: [Image.new("L", (1500, 1200)).save(p) for p in r.rglob("*.png")],
        re.escape("Most images are 1200x1500"),
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_gets_a_sentence(case: str, pets: Pets) -> None:
    root = pets(("train", "test"))
    BROKEN[case][0](root)
    with pytest.raises(DataError, match=BROKEN[case][1]):
        load_dataset(f"folder:{root}")


def python2_pickle(body: dict[bytes, Any]) -> bytes:
    """As Python 2 and numpy 1 wrote the published files: byte strings by the opcodes U and T."""
    pixels, labels = body[b"data"], body[b"labels"]
    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + b"K" + bytes([len(pixels)]) + b"M\x00\x0c\x86cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN"
        + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def cifar(base: Path, form: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (12, 3072)).astype(np.uint8), rng.integers(0, 10, 12)
    folder = base / f"cifar-10-batches-{form[:3].rstrip('3')}"
    folder.mkdir(parents=True)
    for i, name in enumerate(["test_batch", *(f"data_batch_{n}" for n in range(1, 6))]):
        part = slice(2 * i, 2 * i + 2)
        if form == "bin":
            rows = np.concatenate([labels[part, None].astype(np.uint8), pixels[part]], axis=1)
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            body = {b"data": pixels[part], b"labels": labels[part].tolist(), b"batch_label": b"x"}
            write = python2_pickle if form == "py" else partial(pickle.dumps, protocol=int(form[-1]))
            (folder / name).write_bytes(write(body))
    return pixels, labels


@pytest.mark.parametrize("form", ["py", "py3 protocol 2", "py3 protocol 4", "bin"])
def test_cifar_gives_the_same_images_in_both_forms(form: str, tmp_path: Path) -> None:
    pixels, labels = cifar(tmp_path, form)
    data = load_dataset(f"cifar10:{tmp_path}")
    assert data.train is not None and data.shape == (3, 32, 32) and data.classes[3] == "cat" and data.notes == ()
    all_images = torch.cat([data.test.batch(slice(None)).images, data.train.batch(slice(None)).images])
    assert torch.equal(all_images, torch.from_numpy(pixels.reshape(12, 3, 32, 32)) / 255)
    assert np.array_equal(np.concatenate([data.test.labels, data.train.labels]), labels)


class Payload:
    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (open, (self.target, "w"))


HOSTILE: Mapping[str, tuple[Callable[[str], bytes], type[AuditError]]] = {
    "payload": (lambda t: pickle.dumps({b"data": Payload(t)}), UntrustedError),
    "object array": (lambda t: pickle.dumps({b"data": np.array([{}], dtype=object)}), UntrustedError),
    "numpy function": (lambda t: pickle.dumps({b"data": np.load}), UntrustedError),
    "cut short": (lambda t: pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)})[:-9], DataError),
    "other shape": (lambda t: pickle.dumps({b"data": np.zeros((2, 9), np.uint8), b"labels": [0, 1]}), DataError),
    "no labels": (lambda t: pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}), DataError),
    "a list": (lambda t: pickle.dumps([1]), DataError),
    "huge shape": (
        lambda t: python2_pickle({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}).replace(
            b"K\x02M\x00\x0c", b"J\xff\xff\xff\x7fM\x00\x0c"
        ),
        DataError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_or_damaged_batch_runs_nothing_and_gets_a_sentence(case: str, tmp_path: Path) -> None:
    cifar(tmp_path / "c", "py")
    make, kind = HOSTILE[case]
    target = tmp_path / "canary"
    (tmp_path / "c" / "cifar-10-batches-py" / "test_batch").write_bytes(make(str(target)))
    with pytest.raises(kind, match="test_batch"):
        load_dataset(f"cifar10:{tmp_path / 'c'}")
    assert not target.exists()


def test_missing_cifar_and_short_binary_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no CIFAR-10"):
        load_dataset(f"cifar10:{tmp_path}")
    cifar(tmp_path, "bin")
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"12345")
    with pytest.raises(DataError, match="no multiple of 3073"):
        load_dataset(f"cifar10:{tmp_path}")
