"""Pictures of the images with issues: each with its copy, and with the difference of the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.core.evidence import Array
from audit.data.health.symmetries import changed_pixels
from audit.document.images import LARGEST
from audit.topics.data_health.copies import DataParts
from audit.topics.data_health.facts import Issue, IssueFacts

MOST_SHOWN: dict[Issue, int] = {"leak": 8, "conflict": 8, "label": 12, "blank": 4, "duplicate": 6, "unusual": 6}
"""By kind of issue, how many are shown."""


def pictures_of(parts: DataParts, issues: Sequence[IssueFacts]) -> dict[str, Array]:
    """Pictures of the first issues of each kind.

    Args:
        parts: The images.
        issues: The issues, the clearest of each kind first.

    Returns:
        `shown`, int64 (S,), numbers of issues; and `pictures`, uint8 (S, 3, C, h, w), at most 112 pixels a side: the
        image, its copy turned as the image is, and their difference around grey; copy and difference are black where
        there is no copy.
    """
    rows = {(parts.names[at], name): parts.starts[at] + position for at, position, name in _wanted(parts, issues)}
    counts: Counter[Issue] = Counter()
    shown, pictures = [], []
    for number, issue in enumerate(issues):
        counts[issue.issue] += 1
        if counts[issue.issue] > MOST_SHOWN[issue.issue]:
            continue
        image = parts.image(rows[issue.split, issue.image])
        copy = difference = np.zeros_like(image)
        if issue.partner:
            copy = changed_pixels(parts.image(rows[issue.partner_split, issue.partner]), issue.symmetry)
            copy = _scaled(copy, image.shape[1:])
            difference = np.clip(127.5 + (image.astype(np.float32) - copy) / 2, 0, 255).astype(np.uint8)
        shown.append(number)
        pictures.append(np.stack([_small(picture) for picture in (image, copy, difference)]))
    if not shown:
        return {}
    return {"shown": np.array(shown, np.int64), "pictures": np.stack(pictures)}


def _wanted(parts: DataParts, issues: Sequence[IssueFacts]) -> list[tuple[int, int, str]]:
    """Part, position and name of every image that an issue names."""
    names = {(i.split, i.image) for i in issues} | {(i.partner_split, i.partner) for i in issues}
    return [
        (at, position, name)
        for at, split in enumerate(parts.splits)
        for position, name in enumerate(split.ids)
        if (parts.names[at], name) in names
    ]


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[1:]
    share = min(1.0, LARGEST / max(height, width))
    return _scaled(image, (max(1, round(share * height)), max(1, round(share * width))))


def _scaled(image: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
    if image.shape[1:] == size:
        return image
    return np.stack([np.asarray(Image.fromarray(channel).resize((size[1], size[0]))) for channel in image])
