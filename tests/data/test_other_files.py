"""Files and folders that are no data as they stand: what they are is said, with a way that loads them."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from audit.core.errors import DataError, UsageError
from audit.data.dataset import Columns
from audit.data.load import load_dataset


def picture(brightness: int = 90) -> bytes:
    body = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), brightness, np.uint8)).save(body, "PNG")
    return body.getvalue()


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture())
    return root


def workbook() -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("[Content_Types].xml"), "")  # without the time, as the bytes name a test
    return body.getvalue()


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("manifest:x.xlsx", workbook(), "workbook.*save it as CSV"),
        ("x.xlsx", workbook(), "workbook.*save it as CSV"),
        ("manifest:x.csv.gz", b"\x1f\x8b\x08", "compressed as a whole; unpack it"),
        ("x.csv.gz", b"\x1f\x8b\x08", "compressed as a whole; unpack it"),
        ("manifest:x.parquet", b"PAR1....", "Parquet table; hf:FILE.parquet"),
        ("npz:x.npy", b"\x93NUMPY\x01", "a single NumPy array.*numpy.savez"),
        ("x.mat", b"MATLAB 5.0 MAT-file", "MATLAB file.*numpy.savez"),
        ("npz:x.h5", b"\x89HDF\r\n\x1a\n", "HDF5 file"),
        ("archive:x.zip", b"<!DOCTYPE html><html>", "web page.*download it again"),
        ("archive:x.zip", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("archive:x.zip", b"PK\x03\x04 and no end", "damaged zip file"),
        ("archive:x.tar.gz", b"\x1f\x8b\x08", "compressed as a whole; unpack it"),
        ("x.7z", b"7z\xbc\xaf\x27\x1c", "archive of a kind that is not read"),
        ("hf:x.parquet", b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        ("folder:x.zip", b"PK\x03\x04", "is a file, and folder: reads a folder; write archive:"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_kind(name: str, body: bytes, said: str, tmp_path: Path) -> None:
    kind, _, file = name.rpartition(":")
    (tmp_path / file).write_bytes(body)
    with pytest.raises(UsageError, match=said):
        load_dataset(f"{kind}:{tmp_path / file}" if kind else str(tmp_path / file))


def test_a_folder_given_to_a_format_of_files_is_pointed_to_folder(tmp_path: Path) -> None:
    for kind in ("archive", "manifest", "npz"):
        with pytest.raises(DataError, match=f"is a folder, and {kind}: reads a file; write folder:"):
            load_dataset(f"{kind}:{tmp_path}")


def test_links_that_lead_nowhere_are_counted_and_strictly_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a/0.png", "b/0.png")
    os.symlink("../.git/annex/objects/x.png", tmp_path / "b" / "1.png")
    data = load_dataset(f"folder:{tmp_path}")
    assert len(data.test) == 2 and any(
        "lead to no file were left aside: 1, such as b/1.png" in str(n) for n in data.notes
    )
    with pytest.raises(DataError, match=r"lead to no file.*--strict"):
        load_dataset(f"folder:{tmp_path}", strict=True)
    for name in ("a/0.png", "b/0.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="lead to no file"):
        load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(("name", "way"), [("data.zip", "archive:FILE"), ("x.npy", "npz:FILE"), ("x.rar", "Unpack")])
def test_a_folder_without_pictures_says_what_lies_there(name: str, way: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"There is no picture, but: 1 \{Path(name).suffix}.*{way}"):
        load_dataset(f"folder:{tmp_path}")


def test_a_single_class_folder_is_not_called_pictures_without_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Every picture lies in 'cat'") as fault:
        load_dataset(f"folder:{put(tmp_path, 'cat/0.png', 'cat/1.png')}")
    assert "no class folder" not in str(fault.value)


def test_parts_of_a_pile_taken_for_classes_are_a_doubt(tmp_path: Path) -> None:
    put(tmp_path, "HAM_images_part_1/0.png", "HAM_images_part_2/1.png")
    (tmp_path / "HAM_metadata.csv").write_text("image_id,dx\n0,mel\n1,nv\n")
    notes = " ".join(map(str, load_dataset(f"folder:{tmp_path}").notes))
    assert "parts of one pile of pictures: where HAM_metadata.csv lists the labels" in notes
    assert load_dataset(f"manifest:{tmp_path}/HAM_metadata.csv").classes == ("mel", "nv")
    put(tmp_path / "numbered", "grade_1/0.png", "grade_2/1.png")
    assert "one pile" not in " ".join(map(str, load_dataset(f"folder:{tmp_path}/numbered").notes))


def test_one_image_a_class_is_never_tested_on_what_was_trained_on(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "train/b/0.png")
    with pytest.raises(DataError, match="one a class at most"):
        load_dataset(f"folder:{tmp_path}", test_share=0.5)


def test_a_tiff_of_many_bands_says_how_many(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tags = {256: (3, 2), 257: (3, 2), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 122), 277: (3, 13), 279: (4, 52)}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in tags.items())
    body = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + bytes(60)
    for name in ("a/0.tif", "b/0.tif"):
        put(tmp_path, name)
        (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match="TIFF picture of 13 bands, and those of 1 or 3 are read"):
        load_dataset(f"folder:{tmp_path}")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label," + ",".join(f"pixel{i}" for i in range(64)) + "\n" + ",".join(["3"] * 65), "holds the pixels"),
        (",".join(["3"] * 65) + "\n" + ",".join(["0"] * 65), "holds the pixels"),
        ("emotion,pixels,Usage\n3," + " ".join(["70"] * 64) + ",Training", "holds the pixels"),
        ("490\n361\n171\n", "a number a line"),
    ],
)
def test_tables_of_pixels_or_labels_alone_are_called_so(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        load_dataset(f"manifest:{tmp_path}/x.csv")


PATHS, LABELS = ("0.png", "1.png", "2.png"), ("b", "a", "b")
ROWS = [{"path": path, "label": label} for path, label in zip(PATHS, LABELS, strict=True)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"labels": [[path, label] for path, label in zip(PATHS, LABELS, strict=True)]}),
        json.dumps({"path": PATHS, "label": LABELS}),
        json.dumps({"path": dict(enumerate(PATHS)), "label": dict(enumerate(LABELS))}),
        json.dumps({"a": ["1.png"], "b": ["0.png", "2.png"]}),
        json.dumps({"test": ROWS}),
        "\n".join(map(json.dumps, ROWS)),
    ],
)
def test_lists_in_json_of_other_forms_are_read(text: str, tmp_path: Path) -> None:
    put(tmp_path, *PATHS)
    (tmp_path / "x.json").write_text(text)
    data = load_dataset(f"manifest:{tmp_path}/x.json")
    assert data.classes == ("a", "b")
    assert {data.test.ids[i]: int(label) for i, label in enumerate(data.test.labels)} == {
        "0.png": 1,
        "1.png": 0,
        "2.png": 1,
    }


def test_splits_above_lists_in_json_are_parts(tmp_path: Path) -> None:
    put(tmp_path, *PATHS)
    (tmp_path / "x.json").write_text(json.dumps({"train": [["0.png", "b"]], "val": [], "test": [["1.png", "a"]]}))
    data = load_dataset(f"manifest:{tmp_path}/x.json")
    assert data.train is not None and data.train.ids == ("0.png",) and data.test.ids == ("1.png",)


@pytest.mark.parametrize("above", ["3\n Smiling Male\n", "image_id Smiling  Male\n"])
def test_tables_of_words_between_spaces_are_read(above: str, tmp_path: Path) -> None:
    put(tmp_path, *PATHS)
    (tmp_path / "x.txt").write_text(above + "0.png -1  1\n1.png  1 1\n2.png -1 1\n")
    data = load_dataset(f"manifest:{tmp_path}/x.txt", columns=Columns(label="Smiling"))
    assert data.test.labels.tolist() == [0, 1, 0]


def test_images_counted_by_the_last_axis_get_a_sentence_that_loads_them(tmp_path: Path) -> None:
    images, labels = np.zeros((8, 8, 3, 5), np.uint8), np.array([1, 2, 1, 2, 1])
    np.savez(tmp_path / "x.npz", x_test=images, y_test=labels)
    with pytest.raises(DataError, match=r"save numpy.moveaxis\(images, -1, 0\)"):
        load_dataset(f"npz:{tmp_path}/x.npz")
    np.savez(tmp_path / "x.npz", x_test=np.moveaxis(images, -1, 0), y_test=labels)
    assert load_dataset(f"npz:{tmp_path}/x.npz").shape == (3, 8, 8)


def test_one_file_of_a_hub_data_set_is_read(tmp_path: Path) -> None:
    images = [{"bytes": picture(40 * i), "path": None} for i in range(4)]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": [0, 1, 0, 1]}), tmp_path / "test-0.parquet")
    (tmp_path / "other.parquet").write_bytes(b"no part of it")
    assert load_dataset(f"hf:{tmp_path}/test-0.parquet").test.labels.tolist() == [0, 1, 0, 1]
    pyarrow.parquet.write_table(pyarrow.table({"image": list("abcd"), "label": [0, 1, 0, 1]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match="a path for it, not the picture; save the table as CSV"):
        load_dataset(f"hf:{tmp_path}/p.parquet")


def test_masks_beside_the_pictures_of_a_class_are_no_pictures(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{inner}/{name}-0.png" for name in ("COVID", "Normal") for inner in ("images", "masks")))
    data = load_dataset(f"folder:{tmp_path}")
    assert data.test.ids == ("COVID/images/COVID-0.png", "Normal/images/Normal-0.png")
    assert any("Masks beside the pictures of a class were left aside: 2" in str(said) for said in data.notes)
    assert not any("taken for the classes" in str(said) for said in data.notes)
    put(tmp_path / "other", *(f"{name}/{inner}/0.png" for name in "ab" for inner in ("masks", "helmets")))
    assert len(load_dataset(f"folder:{tmp_path}/other").test) == 4


def test_a_copy_of_the_classes_beside_them_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "no/0.png", "yes/0.png", "brain_tumor_dataset/no/0.png", "brain_tumor_dataset/yes/0.png")
    data = load_dataset(f"folder:{tmp_path}")
    assert data.classes == ("no", "yes") and len(data.test) == 2
    assert any("'brain_tumor_dataset' is not used" in str(said) for said in data.notes)
    put(tmp_path / "other", "cat/0.png", "dog/0.png", "both/cat/7.png", "both/dog/8.png")
    assert load_dataset(f"folder:{tmp_path}/other").classes == ("both", "cat", "dog")


def test_class_folders_that_differ_in_case_or_a_space_are_a_doubt(tmp_path: Path) -> None:
    for first, second in (("Cat", "cat"), ("cat ", "cat")):
        data = load_dataset(f"folder:{put(tmp_path / first, f'{first}/0.png', f'{second}/1.png')}")
        assert any("taken for different classes" in str(said) for said in data.notes)


def test_test_pictures_that_are_trained_on_too_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.png")
    (tmp_path / "test" / "a" / "0.png").write_bytes(picture(30))
    notes = " ".join(map(str, load_dataset(f"folder:{tmp_path}").notes))
    assert "Test images that are training images too, to the byte: 1 of 2, such as test/b/0.png." in notes


def test_one_picture_of_two_classes_is_counted(tmp_path: Path) -> None:
    put(tmp_path, "a/0.png", "a/1.png", "b/0.png")
    (tmp_path / "a" / "1.png").write_bytes(picture(30))
    notes = " ".join(map(str, load_dataset(f"folder:{tmp_path}").notes))
    assert "Images that are the same to the byte lie in several classes: 2, such as a/0.png." in notes


@pytest.mark.parametrize(
    ("names", "trains"),
    [
        (("train_x", "train_y", "test_x", "test_y"), True),
        (("X_tr", "Y_tr", "X_te", "Y_te"), True),
        (("trainImages", "trainLabels", "validationImages", "validationLabels"), True),
        (("X", "y"), False),
        (("data", "target"), False),
    ],
)
def test_arrays_are_told_by_the_words_of_their_names(names: tuple[str, ...], trains: bool, tmp_path: Path) -> None:
    rows: list[Any] = [
        np.full((4, 8, 8), 9 * i, np.uint8) if i % 2 == 0 else np.arange(4) % 2 for i in range(len(names))
    ]
    np.savez(tmp_path / "x.npz", **dict(zip(names, rows, strict=True)))
    data = load_dataset(f"npz:{tmp_path}/x.npz")
    assert (data.train is not None) == trains and len(data.test) == 4
    assert float(data.test.batch([0]).images.max() * 255) == pytest.approx(18 if trains else 0)


def test_names_that_do_not_say_which_arrays_are_which_are_listed(tmp_path: Path) -> None:
    images: Any = np.zeros((4, 8, 8), np.uint8)
    labels: Any = np.arange(4) % 2
    for names in (("x", "images", "y"), ("x", "z"), ("fold1_x", "fold1_y")):
        np.savez(tmp_path / "x.npz", **{name: labels if name[-1] == "y" else images for name in names})
        with pytest.raises(DataError, match="choose two arrays with --path-column"):
            load_dataset(f"npz:{tmp_path}/x.npz")


def test_parts_of_arrays_in_two_scales_are_refused_and_a_given_range_is_taken(tmp_path: Path) -> None:
    images, labels = np.linspace(0, 1, 4 * 64, dtype=np.float32).reshape(4, 8, 8), np.arange(4) % 2
    np.savez(tmp_path / "x.npz", x_train=images, y_train=labels, x_test=255 * images, y_test=labels)
    with pytest.raises(DataError, match="up to 1 in one part and up to 255 in the other"):
        load_dataset(f"npz:{tmp_path}/x.npz")
    assert load_dataset(f"npz:{tmp_path}/x.npz", pixel_range=(0, 255)).train is not None


def test_an_unreadable_picture_that_was_named_is_not_blamed_on_strict(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    (tmp_path / "l.txt").write_text("a.png\nb.png\nc.png\n")
    with pytest.raises(DataError, match=r"1 of 3 images are unreadable, and each of them was asked for") as fault:
        load_dataset(f"image:{tmp_path}/l.txt")
    assert "--strict" not in str(fault.value)
