"""Drawn shapes: their masks and planted shortcuts are where they are said to be, as images and as a data format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audit.core.errors import DataError, UsageError
from audit.core.types import Batch
from audit.data.dataset import Split
from audit.data.formats.shapes import SHAPE_NAMES, SHORTCUTS, Shortcut, make_shapes
from audit.data.load import load_dataset


def test_images_masks_and_labels_fit() -> None:
    made = make_shapes(12, size=24)
    assert made.batch.images.shape == (12, 3, 24, 24)
    assert made.batch.images.dtype == torch.float32
    assert 0 <= float(made.batch.images.min()) and float(made.batch.images.max()) <= 1
    assert made.batch.labels.tolist() == [0, 1, 2, 3] * 3
    assert len(set(made.batch.ids)) == 12
    assert not made.planted.any()
    for image, mask in zip(made.batch.images, made.masks, strict=True):
        assert 0.03 < float(mask.float().mean()) < 0.25
        assert float(image[:, mask].mean()) > float(image[:, ~mask].mean()) + 0.2


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_shortcut_is_planted_on_its_class_alone_and_changes_nothing_else(shortcut: Shortcut) -> None:
    plain, planted = make_shapes(40), make_shapes(40, shortcut=shortcut, cheating_class=2)
    changed = (plain.batch.images != planted.batch.images).any(1)
    assert torch.equal(changed.flatten(1).any(1), planted.batch.labels == 2)
    assert not bool((changed & ~planted.planted).any())
    assert float(planted.planted[2].float().mean()) < 0.2
    assert torch.equal(planted.planted[2], planted.planted[6])


def test_planted_share_is_kept_and_images_depend_on_their_own_number_alone() -> None:
    part = make_shapes(400, shortcut="corner-tag", cheating_class=1, planted_share=0.6)
    share = part.planted.flatten(1).any(1)[part.batch.labels == 1].float().mean()
    assert 0.45 < float(share) < 0.75
    assert torch.equal(make_shapes(5).batch.images, make_shapes(50).batch.images[:5])
    assert not torch.equal(make_shapes(5).batch.images, make_shapes(5, split="test").batch.images)
    assert not torch.equal(make_shapes(5).batch.images, make_shapes(5, seed=1).batch.images)


def test_unknown_shortcut_and_class_are_said() -> None:
    with pytest.raises(UsageError, match=r"Unknown shortcut 'tag'. .*corner-tag"):
        make_shapes(4, shortcut="tag")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"0 to {len(SHAPE_NAMES) - 1}"):
        make_shapes(4, cheating_class=9)


def everything(split: Split | None) -> Batch:
    assert split is not None
    return split.batch(slice(None))


def test_the_data_format_gives_parts_and_masks_that_the_seed_alone_decides() -> None:
    data, again, other = (load_dataset(f"shapes:train=12,test=8,seed={seed}") for seed in (3, 3, 4))
    assert (data.classes, data.shape) == (SHAPE_NAMES, (3, 32, 32))
    for part, count in (("train", 12), ("test", 8)):
        images = everything(getattr(data, part))
        generated = make_shapes(count, split=part, seed=3)
        assert torch.equal(images.images, generated.batch.images) and torch.equal(images.labels, generated.batch.labels)
        assert images.masks is not None and torch.equal(images.masks, generated.masks)
        assert images.ids == generated.batch.ids
        assert getattr(again, part).fingerprint == getattr(data, part).fingerprint
        assert getattr(other, part).fingerprint != getattr(data, part).fingerprint


def test_a_shortcut_planted_by_a_setting_changes_the_images_and_not_the_masks() -> None:
    plain, planted = load_dataset("shapes:train=8,test=8"), load_dataset("shapes:train=8,test=8,shortcut=corner-tag")
    before, after = everything(plain.test), everything(planted.test)
    assert planted.name == "shapes with a corner-tag"
    assert (before.images != after.images).flatten(1).any(1).tolist() == [True, False, False, False] * 2
    assert before.masks is not None and after.masks is not None and torch.equal(before.masks, after.masks)


def test_masks_are_resized_and_cropped_with_their_images() -> None:
    masks = everything(load_dataset("shapes:train=4,test=8").test).masks
    assert masks is not None
    larger = everything(load_dataset("shapes:train=4,test=8", image_size=64).test)
    assert larger.images.shape == (8, 3, 64, 64) and larger.masks is not None
    assert torch.equal(larger.masks, masks.repeat_interleave(2, 1).repeat_interleave(2, 2))
    cropped = everything(load_dataset("shapes:train=4,test=8", crop=0.5).test)
    assert cropped.images.shape == (8, 3, 16, 16) and cropped.masks is not None
    assert torch.equal(cropped.masks, masks[:, 8:24, 8:24])


def test_the_mask_is_where_the_colour_is_after_resizing() -> None:
    batch = everything(load_dataset("shapes:train=4,test=8", image_size=20, grayscale=True).test)
    assert batch.masks is not None
    for image, mask in zip(batch.images[:, 0], batch.masks, strict=True):
        assert float(image[mask].mean()) > float(image[~mask].mean()) + 0.15
    assert not np.array_equal(batch.masks[0], batch.masks[4])


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("shapes:sise=40", UsageError, "Did you mean 'size'"),
        ("shapes:size=big", UsageError, "'size' of data-format 'shapes'"),
        ("shapes:size=8", UsageError, "greater than or equal to 16"),
        ("shapes:shortcut=tag", UsageError, "'corner-tag'"),
        ("shapes:40", DataError, "KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_a_sentence(source: str, kind: type[UsageError], message: str) -> None:
    with pytest.raises(kind, match=message):
        load_dataset(source)
