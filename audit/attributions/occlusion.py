"""Occlusion: what the output loses when a window is covered."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.segmentation import paint
from audit.attributions.sharing import scores_of
from audit.models.under_test import ModelUnderTest
from audit.passes.masks import MaskQueue, composite, evaluate
from audit.registry import attribution
from audit.types import Images, Logits


@attribution(reference="arXiv:1311.2901", needs="scores", signed=True, baseline="mean")
def occlusion(
    model: ModelUnderTest,
    images: Images,
    explained: Explained,
    *,
    window: int | None = None,
    stride: int | None = None,
    over: Literal["windows", "segments"] = "windows",
) -> Explanation:
    """The drop of the output when a square window shows the baseline, averaged over the windows over each pixel.

    `window` in pixels, a seventh of the shorter side by default; `stride` half of it. `over` segments, each of
    them is covered in turn instead, through the queue that segment methods share. (N, 1, H, W). Units: output.
    """
    if over == "segments":
        return _over_segments(explained.masks(model, images))
    height, width = images.shape[2:]
    window = min(window or max(1, round(min(height, width) / 7)), height, width)
    stride = min(stride or max(1, window // 2), window)
    covers = windows(height, width, window, stride).to(images.device)
    rows = torch.arange(len(images) * (len(covers) + 1), device=images.device)
    owner, which = rows // (len(covers) + 1), rows % (len(covers) + 1)
    padded = torch.cat([torch.zeros_like(covers[:1]), covers]).to(images.dtype)

    def compose(part: slice) -> Images:
        who = owner[part]
        return composite(images[who], explained.baseline[who], padded[which[part]][:, None])

    def judge(logits: Logits, part: slice) -> Tensor:
        return explained.score(logits, explained.targets[owner[part]])

    outputs = evaluate(model, len(rows), compose, judge).view(len(images), -1)
    drops = outputs[:, :1] - outputs[:, 1:]
    weights = covers.flatten(1).to(drops.dtype)
    maps = drops @ weights / weights.sum(0)
    facts = {"window": window, "stride": stride}
    return Explanation(maps.view(len(images), 1, height, width), facts=facts)


def _over_segments(queue: MaskQueue) -> Explanation:
    """Row 0 of an image's masks shows everything, row k all but segment k - 1."""
    masks = [torch.cat([torch.ones(1, n, device="cpu"), 1 - torch.eye(n, device="cpu")]).bool() for n in queue.sizes]
    drops = [outputs[0] - outputs[1:] for outputs in scores_of(queue, masks)]
    return Explanation(paint(drops, queue.segments))


def windows(height: int, width: int, window: int, stride: int) -> Tensor:
    """Every placing of the window, bool (windows, H, W); the last row and column are always reached."""
    tops = [*range(0, height - window, stride), height - window]
    lefts = [*range(0, width - window, stride), width - window]
    covers = torch.zeros(len(tops) * len(lefts), height, width, dtype=torch.bool, device="cpu")
    for number, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covers[number, top : top + window, left : left + window] = True
    return covers
