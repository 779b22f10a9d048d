"""Masks of a manifest: read beside their images, part of the data's identity, and skipped out loud when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audit.core.errors import DataError
from audit.core.types import concatenate
from audit.data.dataset import Dataset
from audit.data.load import load_dataset


@pytest.fixture
def shelf(tmp_path: Path, paint: Callable[..., np.ndarray]) -> Path:
    """Four pictures of 12x16; of three a mask: its left half, its top half, and at twice the size its right half."""
    for i in range(4):
        Image.fromarray(paint(i)).save(tmp_path / f"{i}.png")
    left, top, right = np.zeros((12, 16), bool), np.zeros((12, 16), bool), np.zeros((24, 32), bool)
    left[:, :8], top[:6], right[:, 16:] = True, True, True
    Image.fromarray(left).save(tmp_path / "left.png")
    Image.fromarray((top * 255).astype(np.uint8)).save(tmp_path / "top.jpg", quality=95)
    Image.fromarray(right.astype(np.uint8)).save(tmp_path / "right.png")  # ones, as segmentation tools write them
    return tmp_path


ROWS = ["0.png,a,left.png", "1.png,b,top.jpg", "2.png,a,right.png", "3.png,b,"]


def load(shelf: Path, rows: list[str] = ROWS, **options: object) -> Dataset:
    (shelf / "m.csv").write_text("\n".join(["path,label,mask", *rows]) + "\n")
    return load_dataset(f"manifest:{shelf / 'm.csv'}", **options)  # type: ignore[arg-type]


def masks_of(data: Dataset, size: tuple[int, int] = (12, 16)) -> torch.Tensor:
    masks = data.test.batch(slice(None)).masks
    assert masks is not None and masks.dtype == torch.bool and masks.shape == (4, *size)
    return masks


def test_masks_of_every_kind_lie_where_they_were_drawn(shelf: Path) -> None:
    masks = masks_of(load(shelf))
    expected = torch.zeros(4, 12, 16, dtype=torch.bool)
    expected[0, :, :8], expected[1, :6], expected[2, :, 8:] = True, True, True
    assert torch.equal(masks, expected)


def test_masks_follow_their_images_size_order_and_subset(shelf: Path) -> None:
    data = load(shelf, image_size=8)
    masks = masks_of(data, (8, 8))
    assert masks[0, :, :4].all() and not masks[0, :, 4:].any()
    reordered = data.test.subset(np.array([2, 0])).batch([1, 0])
    assert reordered.masks is not None and torch.equal(reordered.masks, masks[[0, 2]])
    assert concatenate([reordered, reordered.select(torch.tensor([1]))]).masks is not None


def test_masks_belong_to_the_datas_identity(shelf: Path) -> None:
    with_masks, without = load(shelf), load(shelf, [row.rsplit(",", 1)[0] + "," for row in ROWS])
    assert without.test.masks is None and without.test.batch([0]).masks is None
    assert len({with_masks.test.fingerprint, without.test.fingerprint}) == 2


def test_a_mask_that_cannot_be_read_is_told_and_strictly_an_error(shelf: Path) -> None:
    (shelf / "left.png").write_bytes(b"nothing")
    data = load(shelf)
    assert not masks_of(data)[0].any() and "1 mask is unreadable and left out, left.png" in " ".join(
        map(str, data.notes)
    )
    with pytest.raises(DataError, match="1 mask is unreadable"):
        load(shelf, strict=True)


def test_a_mask_outside_the_folder_is_refused(shelf: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: '\.\./left.png' leads outside"):
        load(shelf, ["0.png,a,../left.png", *ROWS[1:]])


def test_a_mask_that_changes_under_way_is_noticed(shelf: Path) -> None:
    data = load(shelf)
    Image.fromarray(np.ones((12, 16), bool)).save(shelf / "left.png")
    with pytest.raises(DataError, match="changed while it was in use"):
        data.test.batch([0])
