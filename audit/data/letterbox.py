"""Images of any size brought to one shape with their boxes: scaled as a whole, and filled up with grey at the edges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.data.dataset import LoadOptions
from audit.data.image_decoding import decode

GREY = 114
"""What the edges are filled with, as detectors of the YOLO family are trained."""


@dataclass(frozen=True)
class Letterbox:
    """How an image is placed in a frame.

    Attributes:
        scale: What its sides are multiplied by.
        height: Of the scaled image in pixels.
        width: Of the scaled image in pixels.
        top: Rows above it.
        left: Columns before it.
    """

    scale: float
    height: int
    width: int
    top: int
    left: int

    @classmethod
    def of(cls, image: tuple[int, int], frame: tuple[int, int]) -> Letterbox:
        """The largest that fits, in the middle.

        Args:
            image: (height, width) in pixels.
            frame: (height, width) in pixels.
        """
        scale = min(frame[0] / image[0], frame[1] / image[1])
        height, width = max(1, round(image[0] * scale)), max(1, round(image[1] * scale))
        return cls(scale, height, width, (frame[0] - height) // 2, (frame[1] - width) // 2)

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Boxes of the image as boxes in the frame.

        Args:
            boxes: x1, y1, x2, y2 in pixels, (M, 4).
        """
        placed: NDArray[np.float64] = boxes * self.scale + np.array([self.left, self.top, self.left, self.top])
        return placed


def read_letterboxed(
    path: Path, size: tuple[int, int], frame: tuple[int, int], options: LoadOptions
) -> NDArray[np.uint8]:
    """Decode an image into a frame.

    Args:
        path: The file.
        size: Its (height, width), upright, in pixels.
        frame: (height, width) of the result.
        options: The filter, the colour, and what becomes of transparent pixels.

    Returns:
        Pixels, uint8 (C, height, width).
    """
    place = Letterbox.of(size, frame)
    pixels = decode(
        path.read_bytes(),
        (place.height, place.width),
        grayscale=options.grayscale,
        interpolation=options.interpolation or "bilinear",
        transparency=options.transparency,
        pixel_range=options.pixel_range,
    )
    framed = np.full((len(pixels), *frame), GREY, np.uint8)
    framed[:, place.top : place.top + place.height, place.left : place.left + place.width] = pixels
    return framed
