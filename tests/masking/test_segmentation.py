"""Every image is cut into a number of segments that can be told from its size."""

from __future__ import annotations

import pytest
import torch

from audit.masking.segmentation import MIN_SEGMENTS, max_segments, segment_images


@pytest.mark.parametrize("size", [(6, 6), (8, 8), (12, 12), (9, 28), (28, 28), (40, 30)])
@pytest.mark.parametrize("channels", [1, 3])
def test_no_image_gives_more_segments_than_its_size_allows(size: tuple[int, int], channels: int) -> None:
    generator = torch.Generator().manual_seed(1)
    plain, noise = torch.full((1, channels, *size), 0.5), torch.rand(2, channels, *size, generator=generator)
    ramp = torch.linspace(0, 1, size[1]).expand(1, channels, *size)
    counts = segment_images(torch.cat([plain, noise, ramp])).segments.flatten(1).amax(1) + 1
    assert MIN_SEGMENTS <= int(counts.min()) and int(counts.max()) <= max_segments(*size)


def test_an_image_of_28_pixels_a_side_can_be_enumerated_and_one_of_36_not_surely() -> None:
    assert max_segments(28, 28) == 11 and max_segments(36, 36) == 13
