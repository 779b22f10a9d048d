"""What a user asks of a data set besides its place: the same few choices for every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from audit.data.dataset import Dataset


@dataclass(frozen=True)
class LoadOptions:
    """`image_size` is the height and width in pixels (None: as they are); `strict` makes an unreadable image an
    error where it is otherwise skipped, counted and listed; `crop` keeps the middle of each picture alone, that share
    of the largest rectangle of the size's proportions (None: the whole picture, squeezed)."""

    image_size: int | None = None
    grayscale: bool = False
    strict: bool = False
    crop: float | None = None


Loader: TypeAlias = Callable[[str, LoadOptions], Dataset]
"""`load(place, wish) -> Dataset`: `place` is what stands after the colon of the source, "" without one."""
