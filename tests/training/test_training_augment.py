"""Augmentation: exact where it can be, drawn by the image's own generator, inside the box."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from audit.config import AUGMENTATIONS, AugmentationConfig, TrainingConfig
from audit.core.seeding import Generators
from audit.training.augment import augment, draw_maps

KERAS = AugmentationConfig.model_validate(AUGMENTATIONS["keras"])


def generators(count: int, purpose: str = "test") -> Generators:
    return Generators.of([f"image/{i}" for i in range(count)], seed=0, purpose=purpose, device="cpu")


def pictures(count: int, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(count, 2, height, width, generator=torch.Generator().manual_seed(2))


def test_nothing_set_gives_the_images_themselves() -> None:
    images = pictures(4)
    assert augment(images, generators(4), AugmentationConfig()) is images


@pytest.mark.parametrize(("flip", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_flips_mirror_about_half_of_the_images_exactly(flip: str, axis: int) -> None:
    images = pictures(200)
    seen = augment(images, generators(200), AugmentationConfig.model_validate({flip: True}))
    mirrored = torch.isclose(seen, images.flip(axis), atol=1e-5).all(1).all(1).all(1)
    same = torch.isclose(seen, images, atol=1e-5).all(1).all(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 70 < int(mirrored.sum()) < 130


def test_a_crop_is_a_shift_by_whole_pixels_with_the_fill_outside() -> None:
    images = pictures(60, 10, 14)
    seen = augment(images, generators(60), AugmentationConfig(crop=2, fill="zero"))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    shifts = set()
    for picture, view in zip(padded, seen, strict=True):
        windows = {(y, x): picture[:, y : y + 10, x : x + 14] for y in range(5) for x in range(5)}
        matches = [shift for shift, window in windows.items() if torch.allclose(window, view, atol=1e-4)]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert len(shifts) > 15


def test_a_quarter_turn_of_a_square_and_of_a_rectangle() -> None:
    """With 90 degrees as the one possible angle, corners land where geometry says, sides kept to scale."""
    settings = AugmentationConfig(rotation=90)
    maps = draw_maps(generators(500), settings, height=8, width=16)
    corner = torch.tensor([1.0, 0.0])
    moved = maps[:, :, :2] @ corner
    pixels = moved * torch.tensor([16.0, 8.0])
    assert torch.allclose(pixels.norm(dim=1), torch.full((500,), 16.0), atol=1e-3)
    angles = torch.rad2deg(torch.atan2(pixels[:, 1], pixels[:, 0]))
    assert angles.abs().max() <= 90 and angles.max() > 85 and angles.min() < -85
    assert abs(float(angles.mean())) < 6


def test_draws_stay_within_their_ranges_and_fill_them() -> None:
    shift = draw_maps(generators(500), AugmentationConfig(shift=0.25), height=8, width=8)[:, :, 2] / 2
    assert 0.24 < float(shift.abs().max()) <= 0.25
    zoom = draw_maps(generators(500), AugmentationConfig(zoom=0.2), height=8, width=8)
    sides = torch.diagonal(zoom[:, :, :2], dim1=1, dim2=2)
    assert 0.8 <= float(sides.min()) < 0.81 and 1.19 < float(sides.max()) <= 1.2
    assert not torch.allclose(sides[:, 0], sides[:, 1])


@pytest.mark.parametrize("fill", ["nearest", "reflect", "zero"])
def test_views_stay_in_the_box_and_differ_by_epoch_but_not_by_batch(fill: str) -> None:
    images, settings = pictures(8).round(), KERAS.model_copy(update={"fill": fill})
    seen = augment(images, generators(8), settings)
    assert bool(((seen >= 0) & (seen <= 1)).all())
    alone = augment(images[3:5], generators(8).select(torch.arange(3, 5)), settings)
    assert torch.allclose(seen[3:5], alone, atol=1e-6)
    assert not torch.allclose(seen, augment(images, generators(8).fork(1), settings), atol=1e-2)


def test_presets_are_named_and_a_wrong_name_lists_them() -> None:
    assert TrainingConfig.model_validate({"augmentation": "keras"}).augmentation == KERAS
    assert KERAS.rotation == 40 and KERAS.shift == KERAS.shear == KERAS.zoom == 0.2 and KERAS.horizontal_flip
    assert not TrainingConfig().augmentation.active
    with pytest.raises(ValidationError, match=r"Unknown augmentation 'kears'.*Did you mean 'keras'"):
        TrainingConfig.model_validate({"augmentation": "kears"})
