"""A data set as the suite sees it: two splits of images that are fetched when needed, with stable ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from audit.types import Batch

Fetch = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""`fetch(positions) -> uint8 (M, C, H, W)`."""


@dataclass(frozen=True)
class Split:
    """One part of a data set. `labels` int64 (N,); `ids` one stable name an example ("test/00017",
    "cat/0001.jpg"); `fetch` reads images by position; `fingerprint` hashes what the pixels and labels are."""

    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    fetch: Fetch
    fingerprint: str

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: Sequence[int] | NDArray[np.int64] | slice) -> Batch:
        """The examples at `positions`: images float32 in [0, 1] on the CPU."""
        index = np.arange(len(self))[positions] if isinstance(positions, slice) else np.asarray(positions, np.int64)
        pixels = torch.from_numpy(np.ascontiguousarray(self.fetch(index)))
        return Batch(
            images=pixels.to(torch.float32) / 255,
            labels=torch.from_numpy(self.labels[index]),
            ids=tuple(self.ids[i] for i in index),
        )

    def subset(self, positions: NDArray[np.int64]) -> Split:
        """Only the examples at `positions`, in that order."""
        return replace(
            self,
            labels=self.labels[positions],
            ids=tuple(self.ids[i] for i in positions),
            fetch=lambda index: self.fetch(positions[index]),
        )


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
