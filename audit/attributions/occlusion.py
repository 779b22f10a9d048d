"""Occlusion: what the output loses when a window is covered."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, Logits
from audit.explanation.shared_samples import scores_of
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.queue import MaskQueue, evaluate_masked
from audit.masking.segmentation import segments_to_pixels
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1311.2901", needs="scores", signed=True, baseline="mean")
def occlusion(
    model: ModelUnderTest,
    images: Images,
    explained: ExplanationSpec,
    *,
    window: int | None = None,
    stride: int | None = None,
    over: Literal["windows", "segments"] = "windows",
) -> Attribution:
    """The drop of the output when a square window shows the baseline, averaged over the windows over each pixel.

    `window` in pixels, a seventh of the shorter side by default; `stride` half of it. `over` segments, each of
    them is covered in turn instead, through the queue that segment methods share. (N, 1, H, W). Units: output.
    """
    if over == "segments":
        return _over_segments(explained.masks(model, images))
    height, width = images.shape[2:]
    window = min(window or max(1, round(min(height, width) / 7)), height, width)
    stride = min(stride or max(1, window // 2), window)
    covers = windows(height, width, window, stride).to(images.device, images.dtype).flatten(1)
    masks = torch.cat([torch.ones_like(covers[:1]), 1 - covers])
    owners = [row for row in range(len(images)) for _ in masks]
    targets = explained.targets.repeat_interleave(len(masks))

    def show(owner: int, part: slice, shown: Tensor) -> None:
        first = owner * len(masks)
        shown.copy_(masks[part.start - first : part.stop - first])

    def judge(logits: Logits, part: slice) -> Tensor:
        return explained.score(logits, targets[part])

    outputs = evaluate_masked(model, explained.baseline, images, owners, show, judge).view(len(images), -1)
    drops = outputs[:, :1] - outputs[:, 1:]
    maps = drops @ covers.to(drops.dtype) / covers.sum(0)
    facts = {"window": window, "stride": stride}
    return Attribution(maps.view(len(images), 1, height, width), facts=facts)


def _over_segments(queue: MaskQueue) -> Attribution:
    """Row 0 of an image's masks shows everything, row k all but segment k - 1."""
    masks = [torch.cat([torch.ones(1, n, device="cpu"), 1 - torch.eye(n, device="cpu")]).bool() for n in queue.sizes]
    drops = [outputs[0] - outputs[1:] for outputs in scores_of(queue, masks)]
    return Attribution(segments_to_pixels(drops, queue.segments))


def windows(height: int, width: int, window: int, stride: int) -> Tensor:
    """Every placing of the window, bool (windows, H, W); the last row and column are always reached."""
    tops = [*range(0, height - window, stride), height - window]
    lefts = [*range(0, width - window, stride), width - window]
    down, across = _spans(tops, window, height), _spans(lefts, window, width)
    return (down[:, None, :, None] & across[None, :, None, :]).view(-1, height, width)


def _spans(starts: list[int], window: int, length: int) -> Tensor:
    """Which of `length` places lie in the `window` from each start, bool (starts, length)."""
    behind = torch.arange(length, device="cpu") - torch.tensor(starts, device="cpu")[:, None]
    return (behind >= 0) & (behind < window)
