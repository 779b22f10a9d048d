"""Shapes: the truth they come with is the truth."""

from __future__ import annotations

import pytest
import torch

from audit.core.errors import UsageError
from audit.data.formats.shapes import CLASSES, SHORTCUTS, Shortcut, make_shapes


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
    with pytest.raises(UsageError, match=f"0 to {len(CLASSES) - 1}"):
        make_shapes(4, cheating_class=9)
