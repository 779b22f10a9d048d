"""A data set as the suite sees it: two splits of images that are fetched when needed, with stable ids."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.types import Batch

Fetch = Callable[[NDArray[np.int64]], NDArray[np.uint8] | NDArray[np.float32]]
"""`fetch(positions)` gives (M, C, H, W): uint8, or float32 in [0, 1]."""

FetchMasks = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""`masks(positions)` gives (M, H, W)."""


@dataclass(frozen=True)
class Split:
    """One part of a data set. `labels` int64 (N,); `ids` one stable name an example ("test/00017",
    "cat/0001.jpg"); `fetch` reads images by position; `fingerprint` hashes what the pixels and labels are (and the
    masks); `masks` reads where the objects lie, None where the data does not say."""

    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    fetch: Fetch
    fingerprint: str
    masks: FetchMasks | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: Sequence[int] | NDArray[np.int64] | slice) -> Batch:
        """The examples at `positions`: images float32 in [0, 1] on the CPU."""
        index = np.arange(len(self))[positions] if isinstance(positions, slice) else np.asarray(positions, np.int64)
        pixels = torch.from_numpy(np.ascontiguousarray(self.fetch(index)))
        return Batch(
            images=pixels.to(torch.float32) / 255 if pixels.dtype == torch.uint8 else pixels,
            labels=torch.from_numpy(self.labels[index]),
            ids=tuple(self.ids[i] for i in index),
            masks=None if self.masks is None else torch.from_numpy(self.masks(index)),
        )

    def subset(self, positions: NDArray[np.int64]) -> Split:
        """Only the examples at `positions`, in that order."""
        chosen = np.ascontiguousarray(positions, dtype=np.int64)
        masks = self.masks
        return Split(
            labels=self.labels[chosen],
            ids=tuple(self.ids[i] for i in chosen),
            fetch=lambda index: self.fetch(chosen[index]),
            fingerprint=derive_fingerprint(
                self.fingerprint, "subset", hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()
            ),
            masks=None if masks is None else lambda index: masks(chosen[index]),
        )


def derive_fingerprint(fingerprint: str, *parts: object) -> str:
    """The fingerprint of what `parts` say was made of the images behind `fingerprint`."""
    return hashlib.sha256(repr((fingerprint, *parts)).encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """`name` is the source without any path; `classes` in label order; `shape` (C, H, W); `train` may be
    absent; `notes` say what was skipped, repaired or resized."""

    name: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    test: Split
    train: Split | None = None
    notes: tuple[str, ...] = field(default=())
