"""A group that the data's own columns name and the model fails is found, whichever file the columns stand in."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from test_slices_topic import described

from audit.config import load_config
from audit.data.load import load_dataset
from audit.models.under_test import ModelUnderTest
from audit.results.run_checks import run_checks

COUNT = 400
LABELS = np.arange(COUNT) % 4
SITES = np.where(np.arange(COUNT) // 4 % 4 == 0, "north", "south")
PIXELS = np.random.default_rng(0).integers(60, 200, (COUNT, 12, 12), np.uint8)


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(stream, "PNG")
    return stream.getvalue()


def parquet(root: Path) -> str:
    columns = {"image": [png(n) for n in range(COUNT)], "label": LABELS.tolist(), "site": SITES.tolist()}
    pyarrow.parquet.write_table(pyarrow.table(columns), root / "test.parquet", row_group_size=90)
    return f"hf:{root}"


def zipped(root: Path) -> str:
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        for number in range(COUNT):
            archive.writestr(f"{'abcd'[LABELS[number]]}/{number:03d}.png", png(number))
        lines = [f"{'abcd'[LABELS[number]]}/{number:03d}.png,{SITES[number]}" for number in range(COUNT)]
        archive.writestr("metadata.csv", "\n".join(["file_name,site", *lines]))
    return f"archive:{root / 'all.zip'}"


def shards(root: Path) -> str:
    with tarfile.open(root / "test-000000.tar", "w") as archive:
        for number in range(COUNT):
            known = json.dumps({"site": str(SITES[number])}).encode()
            for ending, body in (("png", png(number)), ("cls", b"%d" % LABELS[number]), ("json", known)):
                member = tarfile.TarInfo(f"{number:03d}.{ending}")
                member.size = len(body)
                archive.addfile(member, io.BytesIO(body))
    return f"webdataset:{root}"


def arrays(root: Path) -> str:
    np.savez(root / "all.npz", images=PIXELS, labels=LABELS, site=SITES)
    return f"npz:{root / 'all.npz'}"


@pytest.mark.parametrize("write", [parquet, zipped, shards, arrays])
def test_a_planted_weak_group_is_named(write: Callable[[Path], str], cnn_model: ModelUnderTest, tmp_path: Path) -> None:
    test = load_dataset(write(tmp_path), grayscale=write is not arrays).test
    numbers = np.array([int(Path(name).stem) for name in test.ids])
    right = np.random.default_rng(4).random(COUNT) < np.where(SITES == "north", 0.4, 0.95)
    batch = test.batch(np.arange(COUNT))
    results = described(cnn_model, batch, right[numbers].astype(float), test.cohorts)
    gaps = {f.values["column"]: f for f in run_checks(results, load_config()) if f.check == "group-gap"}
    assert gaps["site"].verdict == "fail" and "north" in gaps["site"].title
    shuffled = np.random.default_rng(5).permutation(right).astype(float)
    results = described(cnn_model, batch, shuffled, test.cohorts)
    gaps = {f.values["column"]: f for f in run_checks(results, load_config()) if f.check == "group-gap"}
    assert gaps["site"].verdict != "fail"
