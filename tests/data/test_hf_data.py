"""Hugging Face data sets in a local folder: Parquet as the Hub stores it, Arrow as save_to_disk writes it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.formats import hf_tables
from audit.data.load import load_dataset

Paint = Callable[..., np.ndarray]
NAMES = ("owl", "cat", "dog")
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def table(paint: Paint, seeds: range, features: Any = FEATURES, **columns: Any) -> pyarrow.Table:
    """A row a seed, whose label is the seed modulo three; `columns` replace or add."""
    rows = {
        "image": [{"bytes": png(paint(seed)), "path": None} for seed in seeds],
        "label": [seed % 3 for seed in seeds],
    }
    made = pyarrow.table(rows | columns)
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})} if features else {}
    )


def as_parquet(folder: Path, name: str, rows: pyarrow.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(rows, folder / f"{name}.parquet", row_group_size=4)


def as_arrow(folder: Path, name: str, rows: pyarrow.Table) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    with pyarrow.ipc.new_stream(str(folder / name / "data-00000-of-00001.arrow"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=4)
    (folder / name / "state.json").write_text("{}")


def as_arrow_file(folder: Path, name: str, rows: pyarrow.Table) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with pyarrow.ipc.new_file(str(folder / f"{name}-00000.arrow"), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=4)


WRITERS = {"parquet": as_parquet, "save_to_disk": as_arrow, "arrow file": as_arrow_file}


@pytest.mark.parametrize("form", WRITERS)
def test_every_form_gives_the_rows_in_their_order(form: str, tmp_path: Path, paint: Paint) -> None:
    for name, seeds in (("train", range(6)), ("test", range(6, 16)), ("validation", range(16, 19))):
        WRITERS[form](tmp_path / "pets", name, table(paint, seeds))
    data = load_dataset(f"hf:{tmp_path / 'pets'}")
    assert data.classes == NAMES and data.train is not None and len(data.train) == 6
    assert data.test.labels.tolist() == [seed % 3 for seed in range(6, 16)]
    for at in (9, 0, 5):
        expected = torch.from_numpy(paint(6 + at).transpose(2, 0, 1)) / 255
        assert torch.equal(data.test.batch([at]).images[0], expected)
    assert any("'validation' is not used" in str(note) for note in data.notes)
    assert len(set(data.test.ids)) == 10 and all("/" in name for name in data.test.ids)


def loaded(tmp_path: Path, rows: pyarrow.Table, name: str = "test-00000-of-00001") -> Dataset:
    as_parquet(tmp_path / "pets" / "data", name, rows)
    return load_dataset(f"hf:{tmp_path / 'pets'}")


def test_a_small_cache_reads_the_same_pixels(tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    data = loaded(tmp_path, table(paint, range(12)))
    order = np.array([11, 0, 7, 3, 10, 1])
    before = data.test.batch(order).images
    monkeypatch.setattr(hf_tables, "_CACHE", 1)
    assert torch.equal(load_dataset(f"hf:{tmp_path / 'pets'}").test.batch(order).images, before)


def test_names_or_numbers_will_do_without_metadata(tmp_path: Path, paint: Paint) -> None:
    words = [NAMES[seed % 3] for seed in range(6)]
    assert loaded(tmp_path / "w", table(paint, range(6), None, label=words)).classes == ("cat", "dog", "owl")
    assert loaded(tmp_path / "n", table(paint, range(6), None)).classes == ("0", "1", "2")
    bare = [png(paint(seed)) for seed in range(6)]
    assert len(loaded(tmp_path / "b", table(paint, range(6), None, image=bare)).test) == 6


def test_other_columns_do_not_disturb_and_a_single_typed_one_is_taken(tmp_path: Path, paint: Paint) -> None:
    rows = table(paint, range(6)).rename_columns(["photo", "species"]).append_column("note", [["x"] * 6])
    features = {"photo": FEATURES["image"], "species": FEATURES["label"]}
    rows = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    assert loaded(tmp_path, rows).classes == NAMES


def test_a_row_without_bytes_is_skipped_and_listed(tmp_path: Path, paint: Paint) -> None:
    pictures = [{"bytes": png(paint(s)) if s else None, "path": "elsewhere.png"} for s in range(6)]
    data = loaded(tmp_path, table(paint, range(6), image=pictures))
    assert len(data.test) == 5 and "the table holds no bytes for it" in str(data.notes[0])


def test_a_damaged_picture_is_skipped_and_strictly_an_error(tmp_path: Path, paint: Paint) -> None:
    pictures = [{"bytes": png(paint(s)) if s else b"\x89PNG\r\n", "path": None} for s in range(6)]
    assert "1 image is unreadable" in str(loaded(tmp_path, table(paint, range(6), image=pictures)).notes[0])
    with pytest.raises(DataError, match="1 of 6"):
        load_dataset(f"hf:{tmp_path / 'pets'}", strict=True)


def cut(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])


@pytest.mark.parametrize("form", WRITERS)
def test_a_table_cut_short_gets_a_sentence(form: str, tmp_path: Path, paint: Paint) -> None:
    WRITERS[form](tmp_path / "pets", "test", table(paint, range(8)))
    (path,) = (path for path in (tmp_path / "pets").rglob("*") if path.suffix in hf_tables.TABLE_SUFFIXES)
    cut(path)
    with pytest.raises(DataError, match="cut short or damaged"):
        load_dataset(f"hf:{tmp_path / 'pets'}")


BROKEN: dict[str, tuple[Callable[[Path, Paint], object], str]] = {
    "no folder": (lambda f, p: None, "No folder"),
    "no tables": (lambda f, p: f.mkdir(), "folder:DIR"),
    "train alone": (lambda f, p: as_parquet(f, "train", table(p, range(6))), "a training part alone"),
    "no labels": (lambda f, p: as_parquet(f, "test", table(p, range(6), label=[-1] * 6)), "validation part alone"),
    "an odd label": (lambda f, p: as_parquet(f, "test", table(p, range(6), label=[0, 1, 2, 9, 0, 1])), "row 3"),
    "a label missing": (lambda f, p: as_parquet(f, "test", table(p, range(2), label=[None, None])), "has no label"),
    "one class": (lambda f, p: as_parquet(f, "test", table(p, range(2), None, label=["a", "a"])), "single label 'a'"),
    "no rows": (lambda f, p: as_parquet(f, "test", table(p, range(6)).slice(0, 0)), "no rows"),
    "no images": (
        lambda f, p: as_parquet(f, "test", table(p, range(6)).drop_columns(["image"])),
        "no column of images",
    ),
    "two configurations": (
        lambda f, p: [as_parquet(f / name, "test", table(p, range(6))) for name in ("a", "b")],
        "several folders",
    ),
    "two lists of classes": (
        lambda f, p: [as_parquet(f, "test", table(p, range(6))), as_parquet(f, "train", table(p, range(6), None))],
        "different classes",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_gets_a_sentence(case: str, tmp_path: Path, paint: Paint) -> None:
    make, message = BROKEN[case]
    make(tmp_path / "pets", paint)
    with pytest.raises(DataError, match=message):
        load_dataset(f"hf:{tmp_path / 'pets'}")
