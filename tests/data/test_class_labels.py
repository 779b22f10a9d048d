"""Labels as programs write them: numbers in any spelling, missing ones, names, one-hot columns; where they stand."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audit.core.errors import DataError, UsageError
from audit.data.class_labels import class_labels
from audit.data.dataset import Columns, Dataset
from audit.data.load import load_dataset

Paint = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    ("values", "classes", "numbers"),
    [
        ([f"{i}.0" for i in (0, 2, 10, 11, 1)], tuple(map(str, range(12))), (0, 2, 10, 11, 1)),
        ([" 3 ", "003", "0", "1e+0"], ("0", "1", "2", "3"), (3, 3, 0, 1)),
        ([3.0, 0, np.int64(1), np.float32(2)], ("0", "1", "2", "3"), (3, 0, 1, 2)),
        ([1, 2, 3, "2"], ("1", "2", "3"), (0, 1, 2, 1)),
        ([0, 2, 5], tuple("012345"), (0, 2, 5)),
        ([0, 1, "nan", None, float("nan"), ""], ("0", "1"), (0, 1, -1, -1, -1, -1)),
        ([0, 1, -1], ("0", "1"), (0, 1, -1)),
        ([-1, 1, -1], ("-1", "1"), (0, 1, 0)),
        ([True, False], ("False", "True"), (1, 0)),
        (["b", " a", "nan", "None"], ("a", "b"), (1, 0, -1, -1)),
        (["none", "scratch"], ("none", "scratch"), (0, 1)),
        (["0.5", "10.5", "2.5"], ("0.5", "2.5", "10.5"), (0, 2, 1)),
        (["10", "9", "x"], ("9", "10", "x"), (1, 0, 2)),
        (["caf\u00e9", "cafe\u0301", "b"], ("b", "caf\u00e9"), (1, 1, 0)),
        ([b"a", np.str_("b")], ("a", "b"), (0, 1)),
    ],
)
def test_labels_of_every_spelling_are_the_classes_they_mean(
    values: Sequence[Any], classes: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    labels = class_labels(values, "list")
    assert (labels.classes, labels.numbers) == (classes, numbers)


def test_names_that_are_listed_are_found_by_number_and_by_name() -> None:
    for values in ([2, 0], ["dog", "owl"], ["2.0", "0"]):
        assert class_labels(values, "list", names=("owl", "cat", "dog")).numbers == (2, 0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([0, -2], "list, row 1: the label -2 is negative"),
        ([None, "nan"], r"no label that names a class \(2 are missing\)"),
        (["a|b", "a"], "'a|b', several classes at once"),
        ([[1], 0], r"row 0: the label '\[1\]' is a list"),
    ],
)
def test_labels_that_are_no_classes_get_a_sentence(values: Sequence[Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence.replace("|", r"\|")):
        class_labels(values, "list")


def test_missing_labels_are_counted_and_strictly_an_error() -> None:
    assert class_labels([0, 1, "nan"], "list").notes[0].text == "Images without a label were skipped: 1 of 3."
    with pytest.raises(DataError, match=r"1 of 3 labels of list are missing, and --strict"):
        class_labels([0, 1, "nan"], "list", strict=True)


def test_doubts_about_labels_are_said() -> None:
    assert "count from 1: class '1'" in class_labels([1, 2], "list").notes[0].text
    assert "differ in case alone" in class_labels(["Cat", "cat"], "list").notes[0].text
    assert "numbers but for ?" in class_labels(["1", "2", "?"], "list").notes[0].text
    assert "Every image has a label of its own (20)" in class_labels([i / 7 for i in range(20)], "list").notes[0].text
    assert class_labels([0, 3], "list").notes[0].text == "Labels that no image has: 2 (1, 2)."


@pytest.fixture
def shelf(tmp_path: Path, paint: Paint) -> Path:
    for i in range(6):
        Image.fromarray(paint(i)).save(tmp_path / f"{i}.png")
    return tmp_path


def listed(shelf: Path, text: str, name: str = "m.csv", **options: Any) -> Dataset:
    (shelf / name).write_text(text, encoding="utf-8")
    return load_dataset(f"manifest:{shelf / name}", **options)


def said(data: Dataset) -> str:
    return " ".join(map(str, data.notes))


def test_floats_of_pandas_are_in_the_order_of_counting(shelf: Path, paint: Paint) -> None:
    for i in range(6, 24):
        Image.fromarray(paint(i)).save(shelf / f"{i}.png")
    data = listed(shelf, "path,label\n" + "".join(f"{i}.png,{i % 12}.0\n" for i in range(24)))
    assert data.test.labels.tolist() == [i % 12 for i in range(24)] and data.classes == tuple(map(str, range(12)))


def test_a_column_for_each_class_is_a_label_and_two_ones_are_refused(shelf: Path) -> None:
    (shelf / "images").mkdir()
    for i in range(6):
        (shelf / f"{i}.png").rename(shelf / "images" / f"leaf_{i}.png")
    rows = [(f"leaf_{i}", *(float(i % 3 == k) for k in range(3))) for i in range(6)]
    text = "image_id,healthy,rust,scab\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    data = listed(shelf, text)
    assert data.classes == ("healthy", "rust", "scab") and data.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.test.ids[0] == "images/leaf_0.png" and "completed by the one file" in said(data)
    with pytest.raises(DataError, match="the classes 'healthy' and 'rust'"):
        listed(shelf, text + "leaf_5,1,1,0\n")


def test_a_table_without_a_header_is_read_and_that_is_said(shelf: Path) -> None:
    data = listed(shelf, "0.png;cat;train\n1.png;dog;val\n2.png;cat;test\n")
    assert data.train is not None and (len(data.train), len(data.test)) == (1, 2)
    assert "no header: its columns are read as path, label, split" in said(data)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("val.txt", "1.png 0\n0.png 1\n2.png 1\n"),
        ("m.json", '[{"path": "1.png", "label": 0}, {"path": "0.png", "label": 1}, {"path": "2.png", "label": 1}]'),
        ("m.json", '{"1.png": 0, "0.png": 1, "2.png": 1}'),
        ("m.csv", "Id Code;Level\r\n1;0\r\n0;1\r\n2;1.0\r\n"),
    ],
)
def test_lists_of_other_tools_are_read(name: str, text: str, shelf: Path) -> None:
    data = listed(shelf, text, name)
    assert data.classes == ("0", "1") and data.test.labels.tolist() == [0, 1, 1] and data.test.ids[0] == "1.png"


@pytest.mark.parametrize(
    "column", ["is_train,1,0,1,0", "is_valid,False,True,False,True", "Usage,Training,PublicTest,Training,PrivateTest"]
)
def test_parts_are_told_by_words_and_by_flags(column: str, shelf: Path) -> None:
    name, *cells = column.split(",")
    data = listed(
        shelf, f"path,label,{name}\n" + "".join(f"{i}.png,{'aabb'[i]},{cell}\n" for i, cell in enumerate(cells))
    )
    assert data.train is not None and data.train.ids == ("0.png", "2.png") and data.test.ids == ("1.png", "3.png")


def test_a_line_that_repeats_another_counts_once(shelf: Path) -> None:
    data = listed(shelf, "path,label\n0.png,a\n1.png,b\n./0.png,a\n")
    assert data.test.ids == ("0.png", "1.png") and "repeat another were left out: 1" in said(data)


@pytest.mark.parametrize("text", ["sep=;\npath;label\n0.png;a\n1.png;b\n", "File Name|Class\n0.png|a\n1.png|b\n"])
def test_other_delimiters_and_spellings_of_columns_are_read(text: str, shelf: Path) -> None:
    assert listed(shelf, text).classes == ("a", "b")


def test_columns_are_chosen_by_key(shelf: Path) -> None:
    text = "Image Index,Finding,coarse,fold\n0.png,a,x,train\n1.png,b,y,train\n2.png,a,y,test\n"
    with pytest.raises(DataError, match=r"no column of labels.*Finding, coarse, fold.*--label-column NAME"):
        listed(shelf, text)
    data = listed(shelf, text, columns=Columns(label="coarse", split="Fold"))
    assert data.classes == ("x", "y") and data.train is not None and data.test.labels.tolist() == [1]
    with pytest.raises(DataError, match=r"no column 'findin' \(--label-column\).*Did you mean 'Finding'"):
        listed(shelf, text, columns=Columns(label="findin"))
    with pytest.raises(UsageError, match="--label-column chooses a column of hf or manifest or npz data"):
        load_dataset("sample", columns=Columns(label="coarse"))


def test_the_label_column_is_said_where_there_are_two(shelf: Path) -> None:
    data = listed(shelf, "path,class,label\n0.png,cat,0\n1.png,dog,1\n")
    assert data.classes == ("0", "1") and "'label', and not class; --label-column" in said(data)


PATHS = {
    "absolute": ("{root}/0.png", "0.png"),
    "a file address": ("file://{root}/0.png", "0.png"),
    "out and in again": ("../{name}/0.png", "0.png"),
    "dots": ("./deep/../0.png", "0.png"),
    "backslashes": (".\\deep\\a b.png", "deep/a b.png"),
    "percent": ("deep/a%20b.png", "deep/a b.png"),
    "another machine": ("/home/somebody/{name}/deep/a b.png", "deep/a b.png"),
    "from the folder above": ("{name}/0.png", "0.png"),
    "Windows": ("C:\\Users\\me\\{name}\\0.png", "0.png"),
    "another case": ("DEEP/A B.PNG", "deep/a b.png"),
    "no ending": ("deep/a b", "deep/a b.png"),
    "no folder": ("a b.png", "deep/a b.png"),
    "decomposed": ("u\u0308.png", "\u00fc.png"),
}


@pytest.mark.parametrize("case", PATHS)
def test_a_path_of_another_system_finds_its_file(case: str, shelf: Path) -> None:
    written, path = PATHS[case]
    (shelf / "deep").mkdir()
    (shelf / "4.png").rename(shelf / "deep" / "a b.png")
    (shelf / "5.png").rename(shelf / "\u00fc.png")
    written = written.replace("{root}", str(shelf)).replace("{name}", shelf.name)
    assert listed(shelf, f"path,label\n{written},cat\n1.png,dog\n").test.ids == (path, "1.png")
    (shelf / "list.txt").write_text(written)
    assert load_dataset(f"image:{shelf / 'list.txt'}=cat").test.ids == (path,)


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("https://host.example/0.png", "is an address .https., and nothing is downloaded"),
        ("/etc/hostname", "leads outside the folder of m.csv"),
        ("/elsewhere/0.png", "leads outside the folder of m.csv"),
        ("../../0.png", "leads outside the folder of m.csv"),
        ("beside/0.png", "lies beside the folder of m.csv"),
        ("x", "'x' fits 2 files .a/x.png, b/x.png."),
    ],
)
def test_a_path_that_names_no_file_of_the_folder_gets_a_sentence(written: str, sentence: str, shelf: Path) -> None:
    (shelf.parent / "beside").mkdir(exist_ok=True)
    (shelf.parent / "beside" / "0.png").write_bytes(b"")
    for folder in "ab":
        (shelf / folder).mkdir()
        (shelf / f"{3 + 'ab'.index(folder)}.png").rename(shelf / folder / "x.png")
    with pytest.raises(DataError, match=f"m.csv, line 2: .*{sentence}"):
        listed(shelf, f"path,label\n{written},cat\n1.png,dog\n")


def npz(path: Path, **arrays: Any) -> Dataset:
    np.savez(path / "d.npz", **arrays)
    return load_dataset(f"npz:{path / 'd.npz'}")


def test_arrays_of_every_kind_of_label_give_the_same_classes(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 8, 8), np.uint8), np.arange(6) % 3
    for written in (labels, labels.astype(float), labels[:, None], np.eye(3)[labels], np.eye(3, dtype=bool)[labels]):
        data = npz(tmp_path, images=images, labels=written)
        assert data.classes == ("0", "1", "2") and data.test.labels.tolist() == labels.tolist()
    assert npz(tmp_path, images=images, labels=np.array(list("cabcab"))).classes == ("a", "b", "c")
    assert npz(tmp_path, images=images, labels=labels + 1).classes == ("1", "2", "3")
    missing = npz(tmp_path, images=np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8),
                  labels=np.array([0, 1, np.nan, 1, 0, 1]))  # fmt: skip
    assert len(missing.test) == 5 and missing.test.fetch(np.array([2])).max() == 3 and "1 of 6" in said(missing)


def test_arrays_of_other_names_are_found_or_chosen(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    held = npz(tmp_path, X_Train=images, Y_Train=labels, X_val=images[:2], y_val=labels[:2])
    assert held.train is not None and (len(held.train), len(held.test)) == (4, 2)
    np.savez(tmp_path / "o.npz", arr_0=images, arr_1=labels)
    with pytest.raises(DataError, match=r"the arrays arr_0, arr_1; .*--path-column NAME and --label-column NAME"):
        load_dataset(f"npz:{tmp_path / 'o.npz'}")
    chosen = load_dataset(f"npz:{tmp_path / 'o.npz'}", columns=Columns(path="arr_0", label="arr_1"))
    assert chosen.test.labels.tolist() == [0, 1, 0, 1]


def test_shards_may_hold_names_and_missing_labels(tmp_path: Path, shelf: Path) -> None:
    with tarfile.open(tmp_path / "test-0.tar", "w") as archive:
        for i, label in enumerate(("cat", "dog", "nan", "cat\n")):
            for kind, body in (("png", (shelf / f"{i}.png").read_bytes()), ("cls", label.encode())):
                info = tarfile.TarInfo(f"{i}.{kind}")
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    data = load_dataset(f"webdataset:{tmp_path / 'test-0.tar'}")
    assert data.classes == ("cat", "dog") and data.test.labels.tolist() == [0, 1, 0] and "1 of 4" in said(data)


def test_two_label_columns_of_a_table_are_listed_and_chosen(tmp_path: Path, paint: Paint) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    bodies = []
    for i in range(8):
        body = io.BytesIO()
        Image.fromarray(paint(i)).save(body, "PNG")
        bodies.append({"bytes": body.getvalue(), "path": None})
    fine = [i % 4 for i in range(8)]
    table = pyarrow.table({"img": bodies, "fine_label": fine, "coarse_label": [f // 2 for f in fine]})
    kinds = {
        "img": {"_type": "Image"},
        "fine_label": {"_type": "ClassLabel", "names": list("wxyz")},
        "coarse_label": {"_type": "ClassLabel", "names": ["p", "q"]},
    }
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": kinds}})})
    parquet.write_table(table, tmp_path / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"2 columns that could hold the labels: fine_label, coarse_label.*--label-col"):
        load_dataset(f"hf:{tmp_path}")
    chosen = load_dataset(f"hf:{tmp_path}", columns=Columns(label="coarse_label"))
    assert chosen.classes == ("p", "q") and chosen.test.labels.tolist() == [0, 0, 1, 1] * 2


def test_a_test_split_without_labels_gives_way_to_validation(tmp_path: Path, paint: Paint) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    body = io.BytesIO()
    Image.fromarray(paint(0)).save(body, "PNG")
    for split, labels in (("test", [-1, -1]), ("validation", [0, 1, 0])):
        rows = {"image": [{"bytes": body.getvalue()}] * len(labels), "label": labels}
        parquet.write_table(pyarrow.table(rows), tmp_path / f"{split}-00000-of-00001.parquet")
    data = load_dataset(f"hf:{tmp_path}")
    assert len(data.test) == 3 and "The split 'test' has no labels and is not used." in said(data)
