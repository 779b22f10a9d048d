"""What tables say of images beside their labels is kept, example by example, and changes no fingerprint."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.data.cohorts import cohorts_fingerprint, group_columns
from audit.data.formats import hf_tables
from audit.data.load import load_dataset

SITES = ("north", "south")


def photographs(root: Path, table: str, header: str, *, wide: bool = False) -> Path:
    """Twenty pictures of two classes, and a table of what is known of them."""
    rows = [header]
    for number in range(20):
        name = f"{'ab'[number % 2]}/{number:02d}.png"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        size = (12 if wide and number % 4 == 0 else 8, 8)
        Image.new("RGB", size, (number * 12, 40, 90)).save(root / name)
        age = "" if number == 3 else str(20 + number * 7 % 50)
        rows.append(f"{name},{'ab'[number % 2]},{'north' if number % 3 else 'south'},{age},note {number},{number}")
    (root / table).write_text("\n".join(rows))
    return root


def test_columns_of_a_manifest_are_kept_and_those_that_make_no_groups_are_not(tmp_path: Path) -> None:
    root = photographs(tmp_path, "list.csv", "path,label,site,age,remark,row")
    dataset = load_dataset(f"manifest:{root}/list.csv")
    cohorts = dataset.test.cohorts
    assert sorted(cohorts) == ["age", "site"]  # remarks differ in every row, and row counts through
    place = dataset.test.ids.index("b/03.png")
    assert cohorts["site"][place] == "south" and np.isnan(cohorts["age"][place])
    assert "site, age" in " ".join(map(str, dataset.notes))


def test_metadata_beside_the_pictures_of_a_folder_are_read(tmp_path: Path) -> None:
    root = photographs(tmp_path, "metadata.csv", "file_name,kind,site,age,remark,row")
    cohorts = load_dataset(f"folder:{root}").test.cohorts
    assert sorted(cohorts) == ["age", "site"]  # kind is the class by another name
    assert set(cohorts["site"].tolist()) == {"north", "south"}


def test_a_table_that_cannot_be_read_is_said_and_the_pictures_are_read(tmp_path: Path) -> None:
    root = photographs(tmp_path, "metadata.csv", "file_name,kind,site,age,remark,row")
    (root / "metadata.csv").write_bytes(b'file_name,site\n"a/00.png\x00,north\n')
    dataset = load_dataset(f"folder:{root}")
    assert len(dataset.test) == 20 and not dataset.test.cohorts
    assert "metadata.csv" in " ".join(map(str, dataset.notes)) or dataset.notes


def test_they_follow_the_examples_into_the_parts_that_are_held_out(tmp_path: Path) -> None:
    source = f"manifest:{photographs(tmp_path, 'list.csv', 'path,label,site,age,remark,row')}/list.csv"
    whole, held = load_dataset(source).test, load_dataset(source, test_share=0.3).test
    said = dict(zip(whole.ids, whole.cohorts["site"].tolist(), strict=True))
    assert 0 < len(held) < 20 and [said[name] for name in held.ids] == held.cohorts["site"].tolist()


def test_no_fingerprint_of_images_depends_on_them_and_their_own_does(tmp_path: Path) -> None:
    root = photographs(tmp_path, "list.csv", "path,label,site,age,remark,row")
    first = load_dataset(f"manifest:{root}/list.csv").test
    (root / "list.csv").write_text((root / "list.csv").read_text().replace("south", "west"))
    second = load_dataset(f"manifest:{root}/list.csv").test
    assert first.fingerprint == second.fingerprint
    assert cohorts_fingerprint(first.cohorts) != cohorts_fingerprint(second.cohorts)
    assert cohorts_fingerprint({}) == ""


def test_sizes_of_the_originals_are_kept_where_they_differ(tmp_path: Path) -> None:
    source = f"folder:{photographs(tmp_path, 'notes.txt', '', wide=True)}"
    cohorts = load_dataset(source, image_size=8).test.cohorts
    assert sorted(cohorts) == sorted((ORIGINAL_SIDE, ORIGINAL_ASPECT))
    assert set(cohorts[ORIGINAL_ASPECT].tolist()) == {1.0, 1.5}


def picture(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (number * 12, 40, 90)).save(stream, "PNG")
    return stream.getvalue()


def facts(number: int, *, train: bool = False) -> dict[str, Any]:
    """What is known of a picture: where and how it was taken and what tells it from every other."""
    return {
        "site": SITES[number % 3 == 0],
        "flash": number % 4 == 0,
        "age": None if number == 3 else 20 + number * 7 % 50 + 60 * train,
        "patient_id": (number * 77 + 31) % 1009,
        "remark": f"note {number}",
        "boxes": [number, 2],
        "kind": "ab"[number % 2],
    }


def in_parquet(root: Path) -> str:
    for split, numbers in (("train", range(20, 40)), ("test", range(20))):
        rows = [facts(number, train=split == "train") for number in numbers]
        columns: dict[str, Any] = {key: [row[key] for row in rows] for key in rows[0]}
        columns["site"] = [SITES.index(row["site"]) for row in rows]
        columns["image"] = [{"bytes": picture(number % 20), "path": None} for number in numbers]
        columns["label"] = [number % 2 for number in numbers]
        features = {
            "image": {"_type": "Image"},
            "label": {"_type": "ClassLabel", "names": ["a", "b"]},
            "site": {"_type": "ClassLabel", "names": list(SITES)},
        }
        made = pyarrow.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        pyarrow.parquet.write_table(made, root / f"{split}-00000-of-00001.parquet", row_group_size=7)
    return f"hf:{root}"


def lines_of_metadata() -> bytes:
    rows = [{"file_name": f"{'ab'[n % 2]}/{n:02d}.png", **facts(n)} for n in range(20)]
    return "\n".join(map(json.dumps, rows)).encode()


def in_zip(root: Path) -> str:
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for number in range(20):
            archive.writestr(f"top/{'ab'[number % 2]}/{number:02d}.png", picture(number))
        archive.writestr("top/metadata.jsonl", lines_of_metadata())
    return f"archive:{root / 'all.zip'}"


def add(archive: tarfile.TarFile, name: str, body: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(body)
    archive.addfile(member, io.BytesIO(body))


def in_tar(root: Path) -> str:
    with tarfile.open(root / "all.tar", "w") as archive:
        for number in range(20):
            add(archive, f"{'ab'[number % 2]}/{number:02d}.png", picture(number))
        add(archive, "metadata.jsonl", lines_of_metadata())
    return f"archive:{root / 'all.tar'}"


def in_shards(root: Path) -> str:
    with tarfile.open(root / "test-000000.tar", "w") as archive:
        for number in range(20):
            add(archive, f"{number:02d}.png", picture(number))
            add(archive, f"{number:02d}.cls", str(number % 2).encode())
            add(archive, f"{number:02d}.json", json.dumps(facts(number)).encode())
    return f"webdataset:{root}"


def in_arrays(root: Path) -> str:
    parts: dict[str, Any] = {}
    for part, numbers in (("train", range(20, 50)), ("test", range(20))):
        rows, count = [facts(number, train=part == "train") for number in numbers], len(numbers)
        parts[f"x_{part}"] = np.arange(count * 64, dtype=np.uint8).reshape(count, 8, 8)
        parts[f"y_{part}"] = np.arange(count) % 2
        for key in ("site", "flash", "patient_id", "remark", "kind"):
            parts[f"{key}_{part}"] = np.array([row[key] for row in rows])
        parts[f"age_{part}"] = np.array([np.nan if row["age"] is None else row["age"] for row in rows])
        parts[f"boxes_{part}"] = np.array([row["boxes"] for row in rows])
    np.savez(root / "all.npz", **parts)
    return f"npz:{root / 'all.npz'}"


@pytest.mark.parametrize("write", [in_parquet, in_zip, in_tar, in_shards, in_arrays])
def test_columns_of_every_format_that_has_them_are_kept(write: Callable[[Path], str], tmp_path: Path) -> None:
    dataset = load_dataset(write(tmp_path))
    cohorts = dataset.test.cohorts
    assert sorted(cohorts) == ["age", "flash", "site"]  # the kind is the class by another name
    assert cohorts["site"].tolist() == [SITES[n % 3 == 0] for n in _numbers(dataset.test.ids)]
    assert cohorts["flash"].tolist() == [str(n % 4 == 0) for n in _numbers(dataset.test.ids)]
    ages = dict(zip(_numbers(dataset.test.ids), cohorts["age"].tolist(), strict=True))
    assert np.isnan(ages.pop(3)) and ages == {n: facts(n)["age"] for n in ages}
    said = " ".join(map(str, dataset.notes))
    assert "kept to compare groups of images: " in said
    left = said.split("make no groups of images and are left aside: ")[1].split(".")[0].split(", ")
    assert set(left) == {"patient_id", "remark", "boxes"} - ({"boxes"} if write is in_arrays else set())
    if dataset.train is not None:
        assert min(dataset.train.cohorts["age"]) >= 80 and sorted(dataset.train.cohorts) == sorted(cohorts)


def _numbers(ids: tuple[str, ...]) -> list[int]:
    return [int(Path(name).stem) for name in ids]


def test_a_shard_whose_json_cannot_be_read_is_said_and_the_pictures_are_read(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "test-000000.tar", "w") as archive:
        for number in range(20):
            add(archive, f"{number:02d}.png", picture(number))
            add(archive, f"{number:02d}.cls", str(number % 2).encode())
            add(archive, f"{number:02d}.json", b'{"site": ' if number else b"[1]")
    dataset = load_dataset(f"webdataset:{tmp_path}")
    assert len(dataset.test) == 20 and not dataset.test.cohorts
    assert [str(said) for said in dataset.notes if "left aside" in str(said)] == [
        "00.json was left aside: it holds no JSON object, and one with a value a name was expected."
    ]


def test_arrays_of_another_length_or_of_no_part_are_no_columns(tmp_path: Path) -> None:
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2
    site, mean = np.array(["n", "s"])[np.arange(20) // 5 % 2], np.array([0.4, 0.2])
    np.savez(tmp_path / "one.npz", images=images, labels=labels, site=site, mean=mean)
    assert sorted(load_dataset(f"npz:{tmp_path / 'one.npz'}").test.cohorts) == ["site"]
    parts: dict[str, Any] = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "two.npz", **parts, site=site)
    assert not load_dataset(f"npz:{tmp_path / 'two.npz'}").test.cohorts


def test_a_column_over_the_tables_of_several_folders_is_one(tmp_path: Path) -> None:
    for site in SITES:
        for number in range(10):
            path = tmp_path / "ab"[number % 2] / site / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(number))
    for kind in "ab":
        for site in SITES:
            names = [f"{n},{site}" for n in ("0.png 2.png 4.png" if kind == "a" else "1.png 3.png 5.png").split()]
            (tmp_path / kind / site / "metadata.csv").write_text("\n".join(["file_name,site", *names]))
    test = load_dataset(f"folder:{tmp_path}").test
    said = dict(zip(test.ids, test.cohorts["site"].tolist(), strict=True))
    assert said["a/north/0.png"] == "north" and said["b/south/5.png"] == "south" and said["b/south/9.png"] == ""


@pytest.mark.parametrize(("name", "kept"), [("patient_id", False), ("ImageID", False), ("weight", True)])
def test_whole_numbers_that_tell_every_image_apart_are_identifiers_by_their_name(name: str, kept: bool) -> None:
    files = [f"{n}.png" for n in range(30)]
    numbers = [(n * 77 + 31) % 1009 for n in range(30)]
    labels = {file: n % 2 for n, file in enumerate(files)}
    cells, _ = group_columns(files, [(name, numbers)], labels, "list.csv")
    assert (name in cells) == kept
    repeated, _ = group_columns(files, [(name, [n // 2 * 7 % 11 for n in range(30)])], labels, "list.csv")
    assert name in repeated


def test_long_texts_of_a_table_are_not_read_beyond_its_first_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, asked = 240, list[tuple[int, str]]()
    columns = {
        "image": [picture(n % 20) for n in range(count)],
        "label": [n % 2 for n in range(count)],
        "caption": [f"a picture, number {n}" for n in range(count)],
        "weight": [str(n * 0.37) for n in range(count)],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "test.parquet", row_group_size=60)
    read = hf_tables._Parquet.read

    def spied(file: hf_tables._Parquet, group: int, column: str) -> Any:
        asked.append((group, column))
        return read(file, group, column)

    monkeypatch.setattr(hf_tables._Parquet, "read", spied)
    dataset = load_dataset(f"hf:{tmp_path}")
    assert sorted(dataset.test.cohorts) == ["weight"] and "caption" in " ".join(map(str, dataset.notes))
    assert {group for group, column in asked if column == "caption"} == {0}
