"""Folders as others lay them out: parts by their words, wrappers, litter, and what is no part and no class."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.load import load_dataset
from audit.data.split_names import part_of


def picture() -> bytes:
    body = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(body, "PNG")
    return body.getvalue()


PICTURE = picture()


def put(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PICTURE)
    return root


def of(part: str, classes: Sequence[str] = ("cat", "dog"), each: int = 2) -> list[str]:
    return [f"{part}{name}/{i}.png" for name in classes for i in range(each)]


def loaded(root: Path, *names: Sequence[str]) -> Dataset:
    return load_dataset(f"folder:{put(root, [name for part in names for name in part])}")


def said(data: Dataset) -> str:
    return " ".join(map(str, data.notes))


NAMED = {
    "train": ("train", "Training", "training_set", "seg_train", "train_images", "TrainSet", "trainImages", "train2017"),
    "test": ("test", "Testing", "test-set", "seg_test", "testset", "test1", "hold-out", "holdout", "seg_pred"),
    "validation": ("val", "valid", "Validation", "val_set", "dev", "eval"),
}


@pytest.mark.parametrize("part", NAMED)
def test_words_for_parts_are_known_in_any_case_and_affix(part: str) -> None:
    assert {part_of(name) for name in NAMED[part]} == {part}


@pytest.mark.parametrize("name", ["station", "testimony", "train_station", "test tube", "valley", "cat", "images", ""])
def test_other_words_are_no_parts(name: str) -> None:
    assert part_of(name) is None


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("seg_train/seg_train/", "seg_test/seg_test/"),
        ("training_set/", "test_set/"),
        ("archive/dataset/Train/", "archive/dataset/Val/"),
        ("flowers_train/", "flowers_test/"),
        ("train/images/", "val/images/"),
        ("training/", "holdout/"),
    ],
)
def test_parts_by_other_names_are_parts_and_no_classes(train: str, test: str, tmp_path: Path) -> None:
    data = loaded(tmp_path, of(train), of(test, each=3))
    assert data.classes == ("cat", "dog") and data.train is not None
    assert (len(data.train), len(data.test)) == (4, 6) and data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_parts_beside_other_folders_are_found_and_two_sets_are_not_mixed(tmp_path: Path) -> None:
    data = loaded(tmp_path / "a", of("data/train/"), of("data/test/"), of("extra/", ("x",)))
    assert data.classes == ("cat", "dog") and "found in data" in said(data)
    with pytest.raises(DataError, match="one, two each hold a train and a test part; give one of them"):
        loaded(tmp_path / "b", *(of(f"{one}/{part}/") for one in ("one", "two") for part in ("train", "test")))


def test_a_test_part_without_classes_gives_way_to_validation(tmp_path: Path) -> None:
    data = loaded(tmp_path, of("train/"), of("validation/", each=3), ["test/0.png", "test/1.png"])
    assert len(data.test) == 6 and "'test' is not used: its pictures lie in no class folder (2)" in said(data)
    other = loaded(tmp_path / "c", of("train/"), of("val/", each=3), of("test/", ["unknown"]))
    assert len(other.test) == 6 and "'test' is not used: the test part is 'val'" in said(other)
    (tmp_path / "b" / "test").mkdir(parents=True)
    empty = loaded(tmp_path / "b", of("train/"), of("val/"))
    assert len(empty.test) == 4 and "test'" not in said(empty)


@pytest.mark.parametrize("name", ["train", "test", "crash_test"])
def test_a_class_that_is_called_like_a_part_stays_a_class(name: str, tmp_path: Path) -> None:
    data = loaded(tmp_path, of("", ("bus", "car", name)))
    assert data.classes == tuple(sorted(("bus", "car", name))) and len(data.test) == 6
    assert loaded(tmp_path / "two", of("", ("test1", "test2"))).classes == ("test1", "test2")
    assert loaded(tmp_path / "odd", of("", ("_synthetic", "invalid", "valid"))).classes[0] == "_synthetic"
    inside = loaded(tmp_path / "in", of("train/", ("bus", name)), of("test/", ("bus", name)))
    assert inside.classes == ("bus", name) and inside.train is not None


def test_an_empty_part_beside_classes_is_absent(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    assert loaded(tmp_path, of("")).classes == ("cat", "dog")


def test_parts_inside_the_classes_are_parts(tmp_path: Path) -> None:
    names = [f"{c}/{part}/{i}.png" for c in ("cat", "dog") for part, n in (("train", 3), ("test", 1)) for i in range(n)]
    data = loaded(tmp_path, names)
    assert data.train is not None and (len(data.train), len(data.test)) == (6, 2) and data.classes == ("cat", "dog")


def test_folds_taken_for_classes_are_a_doubt(tmp_path: Path) -> None:
    assert "give one of the outer folders" in said(loaded(tmp_path, of("fold1/"), of("fold2/")))


LITTER = (
    *("cat/@eaDir/0.png/SYNOFILE_THUMB_M.png", "cat/.thumbnails/1.png", "__MACOSX/cat/._0.png", "$RECYCLE.BIN/a.png"),
    *("lost+found/b.png", "cat/.ipynb_checkpoints/0-checkpoint.png", "System Volume Information/c.png", "@eaDir/d.png"),
    *("dog/_SYNAPP/0.png", ".git/e.png"),
)


def test_what_systems_leave_is_no_data_and_is_counted(tmp_path: Path) -> None:
    data = loaded(tmp_path, of(""), LITTER)
    assert data.classes == ("cat", "dog") and len(data.test) == 4
    assert f"left aside: {len(LITTER)} (" in said(data)


def test_class_folders_of_two_parts_meet_in_another_case_or_unicode_form(tmp_path: Path) -> None:
    data = loaded(tmp_path, of("train/", ("Cat", "caf\u00e9")), of("test/", ("cat", "cafe\u0301")))
    assert data.classes == ("Cat", "caf\u00e9") and data.test.labels.tolist() == [1, 1, 0, 0]


REFUSED: Mapping[str, tuple[Sequence[str], str]] = {
    "dogs and cats in one folder": (
        [f"train/{c}.{i}.jpg" for c in ("cat", "dog") for i in range(3)] + ["test1/1.jpg"],
        "'train' holds 0 class folders.*begin with cat, dog; move each into a folder of its class",
    ),
    "pictures for detection": (["train/images/1.jpg", "valid/images/2.jpg"], "Pictures lie there in no class folder"),
    "test and validation without classes": (
        [*of("train/", ("n01", "n02")), "val/images/0.png", "test/images/1.png"],
        r"a training part alone.*'test' is not used.*no class folder \(1\).*'val' is not used.*--test-share",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pictures_without_class_folders_get_a_sentence(case: str, tmp_path: Path) -> None:
    names, sentence = REFUSED[case]
    with pytest.raises(DataError, match=sentence):
        loaded(tmp_path, names)


def test_annotations_of_a_part_without_class_folders_are_pointed_to_and_read(tmp_path: Path) -> None:
    put(tmp_path, [f"train/{c}/images/{c}_{i}.png" for c in ("n01", "n02") for i in range(2)])
    put(tmp_path, [f"val/images/val_{i}.png" for i in range(3)])
    lines = [f"val_{i}.png\tn0{i % 2 + 1}\t0\t32\t44\t62\n" for i in range(3)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(lines))
    with pytest.raises(
        DataError, match=r"val_annotations\.txt lists them .* manifest:val/val_annotations\.txt reads them"
    ):
        load_dataset(f"folder:{tmp_path}")
    data = load_dataset(f"manifest:{tmp_path}/val/val_annotations.txt")
    assert data.classes == ("n01", "n02") and data.test.labels.tolist() == [0, 1, 0]
    assert data.test.ids[0] == "images/val_0.png"


def test_a_table_beside_loose_pictures_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("id,breed\n")
    with pytest.raises(DataError, match=r"where labels\.csv lists them with their labels, give manifest:FILE"):
        loaded(tmp_path, ["train/1.png", "test/2.png"])


def test_a_zip_with_backslashes_gives_what_its_folder_gives(tmp_path: Path) -> None:
    names = [*of("set/train/"), *of("set/test/")]
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        for name in [*names, "set/test/cat/@eaDir/0.png"]:
            archive.writestr(name.replace("/", "\\"), PICTURE)
    folder, data = loaded(tmp_path / "f", names), load_dataset(f"archive:{tmp_path / 'w.zip'}")
    assert data.train is not None and data.test.ids == folder.test.ids
    assert data.test.fingerprint == folder.test.fingerprint


def test_numbers_as_folders_sort_as_text_and_that_is_said(tmp_path: Path) -> None:
    data = loaded(tmp_path, of("", [str(i) for i in range(12)], 1))
    assert data.classes[:4] == ("0", "1", "10", "11") and "in the order of text" in said(data)


def test_one_part_is_divided_by_seed_within_each_class(tmp_path: Path) -> None:
    put(tmp_path, [*of("", each=10), "dog/last.png"])
    data = load_dataset(f"folder:{tmp_path}", test_share=0.2)
    assert data.train is not None and np.bincount(data.test.labels).tolist() == [2, 2]
    assert sorted(data.test.ids + data.train.ids) == sorted(load_dataset(f"folder:{tmp_path}").test.ids)
    assert "20% of each class drawn by seed 0" in said(data) and "used to test" not in said(data)
    assert load_dataset(f"folder:{tmp_path}", test_share=0.2).test.ids == data.test.ids
    assert load_dataset(f"folder:{tmp_path}", test_share=0.2, seed=1).test.ids != data.test.ids


def test_a_training_part_alone_is_refused_until_a_share_is_named(tmp_path: Path) -> None:
    put(tmp_path, of("train/", each=5))
    with pytest.raises(DataError, match="--test-share"):
        load_dataset(f"folder:{tmp_path}")
    assert len(load_dataset(f"folder:{tmp_path}", test_share=0.4).test) == 4


def test_skipped_pictures_are_counted_by_class(tmp_path: Path) -> None:
    put(tmp_path, of("", each=6))
    for i in range(3):
        (tmp_path / "dog" / f"{i}.png").write_bytes(b"none")
    (tmp_path / "cat" / "0.png").write_bytes(b"none")
    assert "Skipped by class: dog 3 / 6, cat 1 / 6." in said(load_dataset(f"folder:{tmp_path}"))
