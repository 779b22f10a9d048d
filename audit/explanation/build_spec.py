"""The question put to a method: every argument of `explain_images` checked, defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.registry import Method
from audit.core.seeding import Generators, content_ids
from audit.core.types import Images, Labels
from audit.explanation.spec import ExplanationSpec
from audit.masking.baselines import Fill, fill_images
from audit.masking.outputs import OUTPUTS
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import check_segments, segment_images
from audit.models.under_test import ModelUnderTest

Targets = Tensor | Sequence[int] | int | None
"""One class an image, one for all, or None: the predicted class."""


def build_spec(
    model: ModelUnderTest,
    images: Images,
    method: Method,
    *,
    targets: Targets,
    output: str,
    baseline: Fill | None,
    segments: Tensor | None,
    references: Images | None,
    generators: Generators,
    by_segment: bool,
    queue: MaskQueue | None = None,
) -> ExplanationSpec:
    """The question put to `method`, with its defaults filled in; `by_segment` as `asks_segments` says.

    Raises UsageError.
    """
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    fill = baseline_for(method, baseline)
    pieces = None
    if segments is not None:
        pieces = check_segments(segments, images)
    elif by_segment or fill == "segment-mean":
        pieces = segment_images(images)
    parts = None if pieces is None else pieces.segments
    return ExplanationSpec(
        targets=resolve_targets(model, images, targets),
        output=output,
        baseline=fill_images(images, fill, parts),
        generators=generators,
        segments=parts,
        segmentation="" if pieces is None else pieces.words,
        references=None if references is None else check_pixels(model, references),
        queue=queue if by_segment else None,
    )


def resolve_targets(model: ModelUnderTest, images: Images, targets: Targets) -> Labels:
    """The class to explain of each image, int64 (N,). Raises UsageError when one is out of range."""
    if targets is None:
        return model.predictions(images)
    chosen = torch.as_tensor(as_tensor(targets), device=images.device)
    if chosen.is_floating_point() or chosen.dtype == torch.bool or chosen.ndim > 1:
        raise UsageError(f"targets must be class numbers, one an image; {chosen.dtype} of shape {tuple(chosen.shape)}.")
    if chosen.ndim == 1 and len(chosen) != len(images):
        raise UsageError(f"{len(chosen)} targets were given for {len(images)} images: give one each, or one for all.")
    classes = len(model.classes)
    wrong = chosen[(chosen < 0) | (chosen >= classes)]
    if wrong.numel():
        raise UsageError(
            f"Target {int(wrong.flatten()[0])} is out of range: the model has {classes} classes, 0 to {classes - 1}."
        )
    return chosen.to(torch.int64).broadcast_to(len(images)).contiguous()


def check_pixels(model: ModelUnderTest, images: Images) -> Images:
    """`images` on the model's device. Raises UsageError (ModelError for a wrong shape) unless all lie in [0, 1]."""
    images = model.check_images(as_tensor(images))
    if not len(images):
        raise UsageError("No images were given to explain; give at least one, of shape (N, C, H, W).")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise UsageError("Images must lie in [0, 1], without NaN: divide by 255; the model normalises inside.")
    return images


def uses_segments(method: Method, settings: Mapping[str, Any]) -> bool:
    """Whether the method, as set, switches segments on and off: it always does, or its `over` says so."""
    return bool(method.facts["segment_based"]) or settings.get("over") == "segments"


def baseline_for(method: Method, baseline: Fill | None) -> Fill:
    """The baseline asked for, or the method's own."""
    return cast(Fill, method.facts.get("baseline", 0.0)) if baseline is None else baseline


def as_tensor(value: Any) -> Any:
    """NumPy arrays as tensors; anything else as it is."""
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def ids_for(ids: Sequence[str] | None, images: Images) -> Sequence[str]:
    """The ids, by content where none are given. Raises UsageError for another number."""
    if ids is not None and len(ids) != len(images):
        raise UsageError(f"{len(ids)} ids were given for {len(images)} images: give one each, or none.")
    return content_ids(images) if ids is None else ids
