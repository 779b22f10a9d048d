"""Manifests and labels maps: what they say is what is loaded, and any other text gets a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from audit.core.errors import AuditError, DataError
from audit.data.label_map import remap_labels
from audit.data.load import load_dataset


@pytest.fixture
def shelf(tmp_path: Path, paint: Callable[..., np.ndarray]) -> Path:
    """A folder with the pictures 0.png to 5.png, some in a sub-folder."""
    (tmp_path / "deep").mkdir()
    for i in range(6):
        Image.fromarray(paint(i)).save(tmp_path / ("deep" if i > 3 else "") / f"{i}.png")
    return tmp_path


ROWS = [("0.png", "dog", "train"), ("1.png", "cat", "train"), ("2.png", "dog", "test"), ("deep/4.png", "cat", "val")]


def csv_of(rows: Any, header: str = "path,label,split", delimiter: str = ",") -> str:
    return "\n".join([header.replace(",", delimiter), *(delimiter.join(map(str, row)) for row in rows)]) + "\n"


def write(shelf: Path, name: str, text: str) -> str:
    (shelf / name).write_text(text, encoding="utf-8")
    return f"manifest:{shelf / name}"


def jsonl(rows: Any) -> str:
    return "\n".join(json.dumps(dict(zip(("file", "class", "subset"), row, strict=False))) for row in rows)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", csv_of(ROWS)),
        ("m.csv", "\ufeff" + csv_of(ROWS, "Filename,Class,Split", ";").replace("\n", "\r\n")),
        ("m.tsv", csv_of(ROWS, delimiter="\t")),
        ("m.jsonl", jsonl(ROWS)),
        ("m.ndjson", jsonl(ROWS).replace("\n", "\n\n")),
    ],
)
def test_every_form_gives_the_same_data(name: str, text: str, shelf: Path, paint: Callable[..., np.ndarray]) -> None:
    data = load_dataset(write(shelf, name, text))
    assert data.classes == ("cat", "dog") and data.train is not None
    assert data.train.ids == ("0.png", "1.png") and data.test.ids == ("2.png", "deep/4.png")
    assert data.test.labels.tolist() == [1, 0]
    assert torch.equal(data.test.batch([1]).images[0], torch.from_numpy(paint(4).transpose(2, 0, 1)) / 255)


def test_without_splits_everything_tests_and_it_is_said(shelf: Path) -> None:
    data = load_dataset(write(shelf, "m.csv", csv_of([(f"{i}.png", i % 3) for i in range(4)], "path,label")))
    assert data.train is None and data.classes == ("0", "1", "2") and len(data.test) == 4
    assert "names no splits" in str(data.notes[0])


def test_an_absent_file_is_skipped_listed_and_strictly_an_error(shelf: Path) -> None:
    source = write(shelf, "m.csv", csv_of([*ROWS, ("9.png", "cat", "test")]))
    assert "9.png (No such file" in str(load_dataset(source).notes[0])
    with pytest.raises(DataError, match="1 of 5 images"):
        load_dataset(source, strict=True)


BROKEN = {
    "empty": ("m.csv", "", "names no images"),
    "header alone": ("m.csv", "path,label\n", "names no images"),
    "no such columns": ("m.csv", "photo,kind\n1.png,dog\n", "no column of images.*photo, kind.*--path-column"),
    "no label": ("m.csv", "path,label\n0.png,\n", "no label that names a class"),
    "too few columns": ("m.csv", "path,label\n0.png\n", "line 2: 2 columns"),
    "too many columns": ("m.csv", "path,label\n0.png,cat,x\n", "line 2: 2 columns"),
    "an open quote": ("m.csv", 'path,label\n"0.png,cat\n', "not CSV"),
    "outside": ("m.csv", "path,label\n../0.png,cat\n", "outside the folder of m.csv"),
    "absolute": ("m.csv", "path,label\n/etc/0.png,cat\n", "outside the folder of m.csv"),
    "twice": ("m.csv", "path,label\n0.png,cat\n./0.png,dog\n", "line 3: '0.png' is named on line 2"),
    "negative": ("m.csv", "path,label\n0.png,-2\n1.png,0\n", "line 2: the label -2 is negative"),
    "one class": ("m.csv", "path,label\n0.png,cat\n1.png,cat\n", "single label 'cat'"),
    "an odd split": (
        "m.csv",
        csv_of([("0.png", "cat", "elsewhere"), ("1.png", "dog", "test")]),
        "'elsewhere' is unknown",
    ),
    "train alone": ("m.csv", csv_of(ROWS[:2]), "a training part alone"),
    "not JSON": ("m.jsonl", '{"path": "0.png", "label": "cat"}\n{path}\n', "line 2: not JSON"),
    "a JSON list": ("m.jsonl", '["0.png", "cat"]\n', "line 1: an object"),
    "deep JSON": ("m.jsonl", "[" * 200_000, "line 1: not JSON"),
    "half a character": ("m.jsonl", '{"path": "\\ud800", "label": "cat"}\n', "half a character"),
    "a label of another type": ("m.jsonl", '{"path": "0.png", "label": [1]}\n', "is a list"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_manifest_gets_a_sentence(case: str, shelf: Path) -> None:
    name, text, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        load_dataset(write(shelf, name, text))


def test_other_encodings_and_absent_manifests_get_a_sentence(shelf: Path) -> None:
    (shelf / "m.csv").write_bytes("path,label\ncafé.png,cat\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        load_dataset(f"manifest:{shelf / 'm.csv'}")
    with pytest.raises(DataError, match="No manifest"):
        load_dataset(f"manifest:{shelf / 'absent.csv'}")


word = st.sampled_from(["path", "label", "split", "0.png", "1.png", "cat", "dog", "train", "test", "0", "1", "..", "/"])
text = st.one_of(st.text(max_size=60), st.lists(st.lists(word, max_size=4).map(",".join), max_size=6).map("\n".join))
line = st.dictionaries(word, st.one_of(word, st.integers(), st.none(), st.floats(), st.lists(word)), max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["m.csv", "m.jsonl"]), body=st.one_of(text, st.lists(line, max_size=4).map(
    lambda rows: "\n".join(json.dumps(row) for row in rows))), mangled=st.binary(max_size=3))  # fmt: skip
def test_any_text_is_a_data_set_or_our_own_error(name: str, body: str, mangled: bytes, shelf: Path) -> None:
    (shelf / name).write_bytes(body.encode("utf-8", "surrogatepass") + mangled)
    try:
        data = load_dataset(f"manifest:{shelf / name}")
    except AuditError as fault:
        assert str(fault).endswith(".") and "\n" not in str(fault)
    else:
        assert len(data.test) >= 1 and len(data.classes) >= 2


MAPS = {
    "lines": ("map.txt", "dog\nfox\ncat\n"),
    "list": ("map.json", '["dog", "fox", "cat"]'),
    "name to number": ("map.json", '{"cat": 2, "dog": 0, "fox": 1}'),
    "number to name": ("map.json", '{"0": "dog", "1": "fox", "2": "cat"}'),
}


@pytest.mark.parametrize("form", MAPS)
def test_a_labels_map_puts_classes_into_the_models_order(form: str, shelf: Path) -> None:
    name, body = MAPS[form]
    (shelf / name).write_text(body)
    source = write(shelf, "m.csv", csv_of(ROWS))
    plain, mapped = load_dataset(source), load_dataset(source, labels_map=str(shelf / name))
    assert mapped.classes == ("dog", "fox", "cat")
    assert [mapped.classes[i] for i in mapped.test.labels] == [plain.classes[i] for i in plain.test.labels]
    assert mapped.test.fingerprint != plain.test.fingerprint and "moved" in str(mapped.notes[-1])


def test_numbers_get_names_from_a_labels_map(tmp_path: Path) -> None:
    names = [f"digit {i}" for i in range(10)]
    (tmp_path / "map.json").write_text(json.dumps(names))
    data = remap_labels(load_dataset("digits"), str(tmp_path / "map.json"))
    assert data.classes == tuple(names) and data.notes == ()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('["dog"]', "without a gap"),
        ('["dog", "fox"]', "no place for the class 'cat'"),
        ('["dog", "fox", "cats"]', r"no place for the class 'cat' \(1 such\). Did you mean 'cats'\? It names dog"),
        ('["dog", "dog", "cat"]', "'dog' to the outputs 0 and 1"),
        ('{"dog": 0, "cat": 2}', "without a gap"),
        ('{"dog": 0, "cat": 0}', "no labels map"),
        ("7", "no labels map"),
        ("{", "not JSON"),
    ],
)
def test_a_broken_labels_map_gets_a_sentence(body: str, message: str, shelf: Path) -> None:
    (shelf / "map.json").write_text(body)
    with pytest.raises(DataError, match=message):
        load_dataset(write(shelf, "m.csv", csv_of(ROWS)), labels_map=str(shelf / "map.json"))
