"""Occlusion: what the output loses when a window is covered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, Logits, PassCount
from audit.explanation.mask_reuse import scores_of
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.evaluate import evaluate_masked
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import max_segments, segments_to_pixels
from audit.models.under_test import ModelUnderTest


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """The whole image, and one forward a window or segment."""
    height, width = shape[1:]
    if settings["over"] == "segments":
        return PassCount(1 + max_segments(height, width), 0)
    window, stride = _window_and_stride(height, width, settings["window"], settings["stride"])
    return PassCount(1 + len(_starts(height, window, stride)) * len(_starts(width, window, stride)), 0)


@attribution(reference="arXiv:1311.2901", needs="scores", signed=True, baseline="mean", passes=_passes)
def occlusion(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    window: int | None = None,
    stride: int | None = None,
    over: Literal["windows", "segments"] = "windows",
) -> Attribution:
    """The drop of the output when a square window shows the baseline, averaged over the windows over each pixel.

    The map is (N, 1, H, W), in units of the output.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        window: Side in pixels; None for a seventh of the shorter side.
        stride: Pixels from one window to the next; None for half the side.
        over: Cover windows, or each segment in turn through the queue that segment methods share.
    """
    if over == "segments":
        return _over_segments(spec.masks(model, images))
    height, width = images.shape[2:]
    window, stride = _window_and_stride(height, width, window, stride)
    covers = windows(height, width, window, stride).to(images.device, images.dtype).flatten(1)
    masks = torch.cat([torch.ones_like(covers[:1]), 1 - covers])
    owners = [row for row in range(len(images)) for _ in masks]
    targets = spec.targets.repeat_interleave(len(masks))

    def write_masks(owner: int, rows: slice, out: Tensor) -> None:
        first = owner * len(masks)
        out.copy_(masks[rows.start - first : rows.stop - first])

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return spec.score(logits, targets[rows])

    outputs = evaluate_masked(model, spec.baseline, images, owners, write_masks, score_rows).view(len(images), -1)
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
    """Every placing of the window, bool (windows, H, W); the last row and column are always reached.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        window: Side of the window, in pixels.
        stride: Pixels from one window to the next.
    """
    down = _spans(_starts(height, window, stride), window, height)
    across = _spans(_starts(width, window, stride), window, width)
    return (down[:, None, :, None] & across[None, :, None, :]).view(-1, height, width)


def _window_and_stride(height: int, width: int, window: int | None, stride: int | None) -> tuple[int, int]:
    window = min(window or max(1, round(min(height, width) / 7)), height, width)
    return window, min(stride or max(1, window // 2), window)


def _starts(length: int, window: int, stride: int) -> list[int]:
    return [*range(0, length - window, stride), length - window]


def _spans(starts: list[int], window: int, length: int) -> Tensor:
    """Which of `length` positions lie in the `window` from each start, bool (starts, length)."""
    behind = torch.arange(length, device="cpu") - torch.tensor(starts, device="cpu")[:, None]
    return (behind >= 0) & (behind < window)
