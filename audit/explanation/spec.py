"""What a method is asked to explain, what it answers, and the check of every argument of `explain_images`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from audit.core.errors import NotApplicable, UsageError, unknown_name
from audit.core.note import Note, note
from audit.core.pixel_range import is_rounding
from audit.core.registry import Method
from audit.core.seeding import Generators, content_ids
from audit.core.types import Attributions, Images, Labels, Logits, Segments
from audit.masking.baselines import Fill, fill_images
from audit.masking.outputs import OUTPUTS, Output, score
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import check_segments, segment_images
from audit.models.ambient_torch import plain_tensor
from audit.models.under_test import ModelUnderTest

TargetClasses = Tensor | Sequence[int] | int | None
"""One class an image, one for all, or None: the predicted class."""


@dataclass(frozen=True)
class ExplanationSpec:
    """What a method is asked about N images.

    Attributes:
        targets: The class to explain of each image, int64 (N,).
        output: The quantity to explain of that class.
        baseline: The reference input of each image, float32 (N, C, H, W).
        generators: One random generator an image.
        segments: int64 (N, H, W), numbered from 0 in each image; None for methods by pixel.
        segmentation: How the segments were made, in words.
        queue: Answers masks of these images that other methods asked for already, or None.
        references: Background images (B, C, H, W) of methods that average over some, or None.
        counts: How many samples each image gets, int64 (N,), as the map had that this one is compared with; None for
            as many as the method's settings say.
    """

    targets: Labels
    output: Output
    baseline: Images
    generators: Generators
    segments: Segments | None = None
    segmentation: Note | None = None
    queue: MaskQueue | None = None
    references: Images | None = None
    counts: Tensor | None = None

    def select(self, index: Tensor) -> ExplanationSpec:
        """The same for some of the images, without the queue.

        Args:
            index: Their positions, int64 (M,), or a mask, bool (N,).
        """
        return replace(
            self,
            targets=self.targets[index],
            baseline=self.baseline[index],
            generators=self.generators.select(index),
            segments=None if self.segments is None else self.segments[index],
            counts=None if self.counts is None else self.counts[index],
            queue=None,
        )

    def part(self, rows: slice) -> ExplanationSpec:
        """The same for consecutive images, without the queue.

        Args:
            rows: Their positions.
        """
        return replace(
            self,
            targets=self.targets[rows],
            baseline=self.baseline[rows],
            generators=Generators(self.generators.keys[rows]),
            segments=None if self.segments is None else self.segments[rows],
            counts=None if self.counts is None else self.counts[rows],
            queue=None,
        )

    def count_of(self, row: int) -> int | None:
        """How many samples an image gets, where another map decides it.

        Args:
            row: The image.
        """
        return None if self.counts is None else int(self.counts[row])

    def score(self, logits: Logits, targets: Labels | None = None) -> Tensor:
        """The explained quantity of each row, (M,).

        Args:
            logits: Float (M, classes).
            targets: The class of each row, int64 (M,); None where the rows are the N images.
        """
        return score(logits, self.targets if targets is None else targets, self.output)

    def masks(self, model: ModelUnderTest, images: Images) -> MaskQueue:
        """The queue that evaluates segment masks of the images.

        Args:
            model: The model to explain.
            images: Float32 (N, C, H, W) in [0, 1].

        Raises:
            NotApplicable: There are no segments.
        """
        if self.queue is not None:
            return self.queue
        if self.segments is None:
            raise NotApplicable(note("no_segments", "The method works on segments and none were given."))
        targets, output = self.targets, self.output

        def score_of_owner(logits: Logits, owners: Labels) -> Tensor:
            return score(logits, targets[owners], output)

        return MaskQueue(model, images, self.baseline, self.segments, score_of_owner)


@dataclass(frozen=True)
class Attribution:
    """What a method answers about N images.

    Attributes:
        attributions: Float32 (N, C or 1, H, W).
        quality: How good each image's answer is (R2, completeness residual), name to (N,) values.
        facts: Small JSON values for the report.
        maps: Further maps (N, C or 1, H, W) by name, such as standard errors.
    """

    attributions: Attributions
    quality: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)


def build_spec(
    model: ModelUnderTest,
    images: Images,
    method: Method,
    *,
    targets: TargetClasses,
    output: str,
    baseline: Fill | None,
    segments: Tensor | None,
    references: Images | None,
    generators: Generators,
    by_segment: bool,
    queue: MaskQueue | None = None,
    counts: Tensor | None = None,
) -> ExplanationSpec:
    """Check the arguments and fill in the method's defaults.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        method: The attribution to ask.
        targets: The class to explain: one an image, one for all, or None for the predicted class.
        output: A name of `OUTPUTS`.
        baseline: The reference input; None for the method's default.
        segments: Integer (H, W) or (N, H, W); None to make them where the method needs any.
        references: Background images (B, C, H, W) in [0, 1], or None.
        generators: One random generator an image.
        by_segment: Whether the method switches segments on and off, see `uses_segments`.
        queue: Answers of other methods to share, used where `by_segment`.
        counts: How many samples each image gets, int64 (N,), or None.

    Raises:
        UsageError: An argument has a wrong name, shape, type or range.
    """
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    fill = baseline_for(method, baseline)
    segmentation = None
    if segments is not None:
        segmentation = check_segments(segments, images)
    elif by_segment or fill == "segment-mean":
        segmentation = segment_images(images)
    numbered = None if segmentation is None else segmentation.segments
    return ExplanationSpec(
        targets=resolve_targets(model, images, targets),
        output=output,
        baseline=fill_images(images, fill, numbered),
        generators=generators,
        segments=numbered,
        segmentation=None if segmentation is None else segmentation.description,
        references=None if references is None else check_explained_images(model, references),
        queue=queue if by_segment else None,
        counts=counts,
    )


def resolve_targets(model: ModelUnderTest, images: Images, targets: TargetClasses) -> Labels:
    """The class to explain of each image, int64 (N,).

    Args:
        model: The model to explain, which predicts the class where `targets` is None.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: One class an image, one for all, or None.

    Raises:
        UsageError: The targets are no integers, not one an image, or out of range.
    """
    if targets is None:
        return model.predictions(images)
    classes = torch.as_tensor(as_tensor(targets), device=images.device)
    if classes.is_floating_point() or classes.dtype == torch.bool or classes.ndim > 1:
        raise UsageError(
            f"targets must be class numbers, one an image; {classes.dtype} of shape {tuple(classes.shape)}."
        )
    if classes.ndim == 1 and len(classes) != len(images):
        raise UsageError(f"{len(classes)} targets were given for {len(images)} images: give one each, or one for all.")
    count = len(model.classes)
    out_of_range = classes[(classes < 0) | (classes >= count)]
    if out_of_range.numel():
        raise UsageError(
            f"Target {int(out_of_range.flatten()[0])} is out of range: the model has {count} classes, 0 to {count - 1}."
        )
    return classes.to(torch.int64).broadcast_to(len(images)).contiguous()


def check_explained_images(model: ModelUnderTest, images: Images) -> Images:
    """The images on the model's device, (N, C, H, W).

    Args:
        model: The model, whose input shape the images must have.
        images: Tensor or NumPy array (N, C, H, W).

    Raises:
        UsageError: There are no images, they are no tensor, or a pixel lies outside [0, 1].
        ModelError: The images have another shape than the model's input.
    """
    images = as_tensor(images)
    if not isinstance(images, Tensor):
        raise UsageError(f"Images are a {type(images).__name__}, where a tensor or an array (N, C, H, W) was expected.")
    images = model.check_images(plain_tensor(images))
    if not len(images):
        raise UsageError("No images were given to explain; give at least one, of shape (N, C, H, W).")
    if not is_rounding(float(images.min()), float(images.max())):
        raise UsageError("Images must lie in [0, 1], without NaN: divide by 255; the model normalises inside.")
    return images.clamp(0, 1)


def uses_segments(method: Method, settings: Mapping[str, Any]) -> bool:
    """Whether the method switches segments on and off: it always does, or its setting `over` says so.

    Args:
        method: A registered attribution.
        settings: Its settings.
    """
    return bool(method.facts["segment_based"]) or settings.get("over") == "segments"


def baseline_for(method: Method, baseline: Fill | None) -> Fill:
    """The baseline, or the method's default where it is None.

    Args:
        method: A registered attribution.
        baseline: What the caller asked for, or None.
    """
    return cast(Fill, method.facts.get("baseline", 0.0)) if baseline is None else baseline


def as_tensor(value: Any) -> Any:
    """A NumPy array as a tensor; anything else as it is.

    Args:
        value: Any argument.
    """
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def ids_for(ids: Sequence[str] | None, images: Images) -> Sequence[str]:
    """One id an image, by content where there are none.

    Args:
        ids: The caller's ids, or None.
        images: Float32 (N, C, H, W).

    Raises:
        UsageError: Their number is not N.
    """
    if ids is not None and len(ids) != len(images):
        raise UsageError(f"{len(ids)} ids were given for {len(images)} images: give one each, or none.")
    return content_ids(images) if ids is None else ids
