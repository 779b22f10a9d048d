"""Images that annotations list with their boxes: checked, repaired or refused, and made into a split of one shape."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.objects import Objects
from audit.data.dataset import LoadOptions, Split
from audit.data.image_decoding import UnreadableImage, inspect_image, strict_pillow
from audit.data.letterbox import Letterbox, read_letterboxed
from audit.data.object_split import object_split

USUAL_FRAME = 320
"""Height and width of the images where nobody says: detectors resize again as they were trained."""
_ROUNDING = 2.0
"""Pixels by which a box may leave its image without being remarked on: annotations are rounded, and count from 1."""
_CLIPPED = note(
    "data_boxes_clipped",
    "{count} boxes were cut at the edge of their image, such as in {name}; --strict refuses them.",
)
_DROPPED = note(
    "data_boxes_dropped",
    "{count} boxes were left out for having no area inside their image, such as in {name}; --strict refuses them.",
)
_UNREADABLE = note(
    "data_boxes_unreadable",
    "{count} images were left out as missing or unreadable, such as {name}; --strict refuses them.",
)
_EMPTY = note("data_boxes_empty", "{count} images have no object: whatever is found there is false.")


@dataclass(frozen=True)
class ListedImage:
    """An image with its annotations, as they are written.

    Attributes:
        name: Its stable name, relative to the folder of images.
        path: The file.
        boxes: x1, y1, x2, y2 in pixels of the image, float64 (M, 4); as shares of its sides where `relative`.
        labels: Positions of the classes, int64 (M,).
        areas: Of masks in square pixels, float64 (M,); NaN where the box is all there is.
        crowd: Whether a box stands for a group, bool (M,).
        size: (height, width) that the annotations state; None where they state none.
        relative: Whether boxes are shares.
    """

    name: str
    path: Path
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    size: tuple[int, int] | None = None
    relative: bool = False


@dataclass
class _Remarks:
    """What was repaired or left out: by kind, the names of the images."""

    clipped: list[str]
    dropped: list[str]
    unreadable: list[str]
    empty: int = 0

    def notes(self) -> tuple[Note, ...]:
        """What a reader should know."""
        listed = ((_CLIPPED, self.clipped), (_DROPPED, self.dropped), (_UNREADABLE, self.unreadable))
        said = [text.filled(count=len(names), name=names[0]) for text, names in listed if names]
        return (*said, *((_EMPTY.filled(count=self.empty),) if self.empty else ()))


def split_of_boxes(images: Iterable[ListedImage], options: LoadOptions, source: str) -> tuple[Split, tuple[Note, ...]]:
    """A split of letterboxed images with their objects.

    Args:
        images: The images, in order.
        options: The size, the colour, and whether anything wrong is an error.
        source: What the annotations are called, for errors.

    Returns:
        The split, and what the reader should know of it.

    Raises:
        DataError: Nothing is left, or `options.strict` and something is wrong; the first image is named.
    """
    side = options.image_size or USUAL_FRAME
    frame, remarks = (side, side), _Remarks([], [], [])
    kept: list[tuple[ListedImage, tuple[int, int]]] = []
    objects: list[Objects] = []
    digest = hashlib.sha256(repr((frame, options.grayscale, options.interpolation, options.transparency)).encode())
    total = 0
    with strict_pillow():
        for image in images:
            total += 1
            try:
                body = image.path.read_bytes()
                size = inspect_image(body).size
            except (OSError, UnreadableImage) as fault:
                reason = fault.strerror if isinstance(fault, OSError) else str(fault)
                if options.strict:
                    raise DataError(
                        f"{source}: the image {image.name!r} cannot be read ({reason}). Mend or delist it."
                    ) from fault
                remarks.unreadable.append(image.name)
                continue
            if image.size is not None and image.size != size:
                raise DataError(
                    f"{source} says that {image.name!r} has {image.size[1]}x{image.size[0]} pixels, and the file has "
                    f"{size[1]}x{size[0]}: the boxes belong to another version of the image. Give that one."
                )
            digest.update(hashlib.sha256(body).digest())
            objects.append(_objects(image, size, frame, options.strict, remarks, source))
            kept.append((image, size))
    if not kept:
        first = f": {remarks.unreadable[0]!r} was looked for first" if remarks.unreadable else ""
        raise DataError(
            f"{source} lists {total} images and none could be read{first}. Put them where the annotations "
            "say they are; of a COCO file, coco:FILE.json,images=DIR names their folder."
        )

    def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        with strict_pillow():
            return np.stack([read_letterboxed(kept[i][0].path, kept[i][1], frame, options) for i in index.tolist()])

    remarks.empty = sum(not len(there) for there in objects)
    split = object_split([image.name for image, _ in kept], fetch, objects, digest.hexdigest())
    resized = note(
        "data_letterboxed",
        "Images are scaled as a whole into {side}x{side} pixels, and grey fills the edges; --image-size gives another "
        "size.",
        side=side,
    )
    return split, (resized, *remarks.notes())


def require_class(position: int | None, label: object, image: str, classes: Sequence[str], source: str) -> int:
    """The position of a class that an annotation names.

    Args:
        position: Where it is; None where it is not among the classes.
        label: How the annotation names it.
        image: Name of the image.
        classes: The classes.
        source: What the annotations are called.

    Raises:
        DataError: There is no such class.
    """
    if position is None:
        known = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
        raise DataError(f"{source}: an object of {image!r} has the class {label!r}, which is none of {known}.")
    return position


def _objects(
    image: ListedImage, size: tuple[int, int], frame: tuple[int, int], strict: bool, remarks: _Remarks, source: str
) -> Objects:
    """The objects in the frame, their boxes checked."""
    height, width = size
    boxes = image.boxes * np.array([width, height, width, height]) if image.relative else image.boxes
    inverted: NDArray[np.bool_] = np.asarray(~np.isfinite(boxes).all(1) | (boxes[:, 2:] < boxes[:, :2]).any(1))
    inside = boxes.clip(0, [width, height, width, height])
    beyond: NDArray[np.bool_] = (np.abs(np.nan_to_num(boxes) - np.nan_to_num(inside)) > _ROUNDING).any(1)
    empty: NDArray[np.bool_] = inverted | (inside[:, 2:] <= inside[:, :2]).any(1)
    if strict and (empty | beyond).any():
        at = int(np.flatnonzero(empty | beyond)[0])
        what = "is inverted" if inverted[at] else "leaves the image" if beyond[at] else "has no area"
        corners = ", ".join(f"{value:g}" for value in boxes[at])
        raise DataError(
            f"{source}: the box ({corners}) of {image.name!r}, which has {width}x{height} pixels, {what}; x1, y1, x2, "
            "y2 inside the image were expected. Mend it, or leave --strict out."
        )
    remarks.dropped += [image.name] * int(empty.sum())
    remarks.clipped += [image.name] * int((beyond & ~empty).sum())
    place, good = Letterbox.of(size, frame), ~empty
    placed = place.boxes(inside[good])
    own = (placed[:, 2:] - placed[:, :2]).prod(1)
    areas = np.where(np.isnan(image.areas[good]), own, image.areas[good] * place.scale**2)
    return Objects(
        torch.from_numpy(placed.astype(np.float32)),
        torch.from_numpy(image.labels[good]),
        torch.from_numpy(areas.astype(np.float32)),
        torch.from_numpy(image.crowd[good]),
    )
