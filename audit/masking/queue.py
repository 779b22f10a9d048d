"""The (image, mask) queue: masks of many images, composited as tensors, duplicates evaluated once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.types import Images, Labels, Logits, Segments
from audit.masking.cache import MaskCache, fitted
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_LOGITS_KEPT = 1 << 23
"""Numbers, 32 MB."""
_COMPOSED = 1 << 18
"""Numbers, 1 MB: 334 images of 28x28, one batch of large ones."""
_OWNER = 4
"""Bytes of an image's number in the name of a pair."""

Compose = Callable[[slice], Images]
"""`compose(part)` makes the images of that part of the queue, when their turn comes."""
Judge = Callable[[Logits, slice], Tensor]
"""`judge(logits, part)` keeps what is wanted of them, rows in order."""
Show = Callable[[int, slice, Tensor], object]
"""`show(owner, part, shown)` writes the masks of that part of the queue, all of image `owner`, into `shown`.

`shown` (M, pixels) is of the images' type: 1 where the image shows, 0 where its baseline does.
"""
OwnedScore = Callable[[Logits, Labels], Tensor]
"""`score(logits, owners)`: one number a row, `owners` int64 naming each row's image."""


def evaluate(model: ModelUnderTest, count: int, compose: Compose, judge: Judge) -> Tensor:
    """What `judge` keeps of `count` composited images, never all in memory; halves the batch on out-of-memory.

    Few logits are judged at once, in the end: after a small net's forward the first small operations are its dearest.
    """
    if not count:
        return torch.zeros(0, device=model.device)
    at_once = count * len(model.classes) <= _LOGITS_KEPT
    ahead = _Ahead(compose, count, _COMPOSED // math.prod(model.input_shape))

    def one(part: slice) -> Tensor:
        logits: Logits = model.module(ahead(part))
        return logits if at_once else judge(logits, part)

    with torch.no_grad():
        found = torch.cat(list(in_batches(count, model.layout, one)))
        return judge(found, slice(0, count)) if at_once else found


def evaluate_masked(
    model: ModelUnderTest, baseline: Images, images: Images, owners: Sequence[int], show: Show, judge: Judge
) -> Tensor:
    """`evaluate` for rows that each show a part of image `owners[row]` over its baseline, (N, C, H, W) both.

    Run by run of one image: its pixels are broadcast, never copied. `lerp` is exact where a mask is 0 or 1 and, on a
    CPU, ten to thirty times faster than `where` on a broadcast mask.
    """
    pages = BufferPool()

    def compose(part: slice) -> Images:
        composed = pages.like(images, "images", part.stop - part.start)
        shown = pages.like(images[:, :1], "shown", len(composed))
        for owner, start, stop in _runs(owners[part]):
            mask = shown[start:stop]
            show(owner, slice(part.start + start, part.start + stop), mask.flatten(1))
            torch.lerp(baseline[owner], images[owner], mask, out=composed[start:stop])
        return composed

    return evaluate(model, len(owners), compose, judge)


class _Ahead:
    """Composes several batches of small images at once, `room` images at most, and hands them out one by one."""

    def __init__(self, compose: Compose, count: int, room: int) -> None:
        self.compose, self.count, self.room = compose, count, room
        self.start = self.stop = 0

    def __call__(self, part: slice) -> Images:
        size = part.stop - part.start
        if part.start < self.start or part.stop > self.stop:
            self.start = part.start
            self.stop = min(self.count, part.start + max(1, self.room // size) * size)
            self.images = self.compose(slice(self.start, self.stop))
        return self.images[part.start - self.start : part.stop - self.start]


class MaskQueue:
    """Segment masks of a set of images, each (image, mask) forwarded once however often it is asked for.

    `images` and `baseline` (N, C, H, W); `segments` int64 (N, H, W), numbered from 0 in each image; where a mask
    is False the baseline shows. Methods that share a queue share its answers.
    """

    def __init__(
        self, model: ModelUnderTest, images: Images, baseline: Images, segments: Segments, score: OwnedScore
    ) -> None:
        self.model = model
        self.images = images
        self.baseline = baseline
        self.segments = segments
        self.flat_segments = segments.flatten(1)
        self._pixels = self.flat_segments.to(torch.int32)
        self.sizes: list[int] = (self.flat_segments.amax(1) + 1).tolist()
        self.score = score
        self._offered: dict[int, list[Tensor]] = {}
        self._place: dict[bytes, int] = {}
        self._known = torch.zeros(0, device=images.device)
        self._given = 0
        self._spent: set[int] = set()

    def __len__(self) -> int:
        """How many different (image, mask) pairs have an answer."""
        return len(self._place)

    @property
    def recalled(self) -> int:
        """How many different pairs were asked for whose answer came from `recall`."""
        return len(self._spent)

    def answers(self) -> MaskCache:
        """Everything known by now."""
        rows = np.frombuffer(b"".join(self._place), np.uint8).reshape(len(self), _OWNER + self._width)
        owners = rows[:, :_OWNER].copy().view("<i4").ravel()
        order = np.argsort(owners, kind="stable")
        offered = {key for owner, masks in self._offered.items() for key in self._keys_of(owner, torch.cat(masks))}
        return MaskCache(
            counts=np.bincount(owners, minlength=len(self.sizes)),
            masks=rows[order, _OWNER:],
            outputs=self._known.cpu().numpy()[order],
            offered=np.array([key in offered for key in self._place], dtype=np.bool_)[order],
        )

    def recall(self, answers: MaskCache, *, outputs: bool = True) -> None:
        """Know `answers`, of these images under the same baseline, segments and score, before anything was asked.

        Without `outputs`, offer their masks and no more: who samples takes the same ones, and asks for each.
        """
        ends = np.concatenate([[0], answers.counts.cumsum()])
        for owner, size in enumerate(self.sizes):
            rows = slice(int(ends[owner]), int(ends[owner + 1]))
            offered = answers.masks[rows][answers.offered[rows]]
            if len(offered):
                self.offer(owner, torch.from_numpy(np.unpackbits(offered, axis=1, count=size) == 1))
        if outputs:
            owners = np.repeat(np.arange(len(answers.counts)), answers.counts)
            self._place = {key: place for place, key in enumerate(self._named(owners, answers.masks))}
            self._known = torch.from_numpy(answers.outputs.copy()).to(self._known)
            self._given = len(self._place)

    def offer(self, owner: int, masks: Tensor) -> None:
        """Make masks bool (M, segments) of image `owner` known to methods that sample (see `offered`).

        Each must be uniform among the masks that show as many segments, and asked for before or right after.
        """
        self._offered.setdefault(owner, []).append(masks.cpu())

    def offered(self, owner: int) -> Tensor:
        """The different masks that earlier methods drew for image `owner`, bool (M, segments), on the CPU."""
        if owner not in self._offered:
            return torch.zeros(0, self.sizes[owner], dtype=torch.bool, device="cpu")
        offered = torch.cat(self._offered[owner])
        return offered[first_of_each(offered)]

    def scores(self, owners: Labels, masks: Tensor) -> Tensor:
        """The score of each composite, float32 (M,); `owners` int64 (M,), `masks` bool (M, segments).

        Columns beyond an image's own number of segments are ignored.
        """
        known, keys = len(self._place), self._keys(owners, masks)
        places = np.array([self._place.setdefault(key, len(self._place)) for key in keys], dtype=np.int64)
        self._spent.update(places[places < self._given].tolist())
        first = np.unique(places, return_index=True)[1]
        fresh = first[places[first] >= known]
        if fresh.size:
            try:
                self._evaluate(owners, masks, torch.from_numpy(fresh))
            except BaseException:
                for position in fresh:
                    del self._place[keys[position]]
                raise
        return self._known[torch.from_numpy(places).to(self.images.device)]

    def _evaluate(self, owners: Labels, masks: Tensor, fresh: Tensor) -> None:
        """The scores of the masks at `fresh`, in the order of their places."""
        index = fresh.to(owners.device)
        owners, weights = owners[index], masks[index].to(self.images.dtype)

        def show(owner: int, part: slice, shown: Tensor) -> None:
            torch.index_select(weights[part], 1, self._pixels[owner], out=shown)

        def judge(logits: Logits, part: slice) -> Tensor:
            return self.score(logits, owners[part]).clone()

        new = evaluate_masked(self.model, self.baseline, self.images, owners.tolist(), show, judge)
        self._known = torch.cat([self._known, new.to(self._known.dtype)])

    def _keys(self, owners: Labels, masks: Tensor) -> list[bytes]:
        sizes = np.asarray(self.sizes)[owners.cpu().numpy()]
        meaningful = np.arange(masks.shape[1])[None] < sizes[:, None]
        return self._named(owners.cpu().numpy(), np.packbits(masks.cpu().numpy() & meaningful, axis=1))

    def _keys_of(self, owner: int, masks: Tensor) -> list[bytes]:
        return self._keys(torch.full((len(masks),), owner, device="cpu"), masks)

    def _named(self, owners: NDArray[np.int64], bits: NDArray[np.uint8]) -> list[bytes]:
        """One name a pair, whatever the number of columns it was asked with."""
        named = [owners.astype("<i4")[:, None].view(np.uint8), fitted(bits, self._width)]
        return _whole_rows(np.concatenate(named, axis=1)).tolist()  # type: ignore[no-any-return]

    @property
    def _width(self) -> int:
        """Bytes of the mask of most segments."""
        return -(-max(self.sizes) // 8)


class BufferPool:
    """Memory that each batch writes over: at 224x224, fresh pages cost five times the pixels put on them."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def like(self, images: Images, name: str, count: int) -> Tensor:
        """Room for `count` images of the shape of `images`, holding anything."""
        if name not in self._kept or len(self._kept[name]) < count:
            self._kept[name] = torch.empty(count, *images.shape[1:], dtype=images.dtype, device=images.device)
        return self._kept[name][:count]


def first_of_each(masks: Tensor) -> Tensor:
    """Where each different row of `masks` bool (M, n), on the CPU, stands first, int64; rows in ascending order.

    Fourteen times as fast as `np.unique` with an axis, which compares rows bit by bit.
    """
    return torch.from_numpy(np.unique(_whole_rows(np.packbits(masks.numpy(), axis=1)), return_index=True)[1])


def _whole_rows(rows: NDArray[np.uint8]) -> NDArray[np.void]:
    """Each row's bytes as one value."""
    return rows.view(f"V{rows.shape[1]}").ravel()


def _runs(owners: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """`(owner, start, stop)` of each stretch of equal owners."""
    start = 0
    for owner, run in groupby(owners):
        stop = start + len(list(run))
        yield owner, start, stop
        start = stop
