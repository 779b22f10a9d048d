"""Mask reuse between cells: the answers in one method's evidence, reused by another method's cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import AuditError, NotApplicable
from audit.core.evidence import Array, Evidence
from audit.core.note import NO_NOTE
from audit.core.types import Images, Labels, Segments
from audit.execution.context import Context
from audit.execution.explanation_inputs import load_array
from audit.explanation.mask_reuse import MASK_SOURCE, MASKS, build_shared_specs
from audit.masking.cache import MaskCache, concatenate_caches
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import Segmentation
from audit.models.under_test import ModelUnderTest
from audit.planning.settings import ExplanationSettings
from audit.results.facts import ExplanationFacts

_REUSED = "recalled"


@dataclass(frozen=True)
class ReusedMasks:
    """The answers of `MASK_SOURCE` about the same N images.

    Attributes:
        targets: The class that was explained of each image, int64 (N,); the answers hold for it alone.
        segmentation: The segments that the masks switch on and off.
        answers: The outputs under the masks.
    """

    targets: Labels
    segmentation: Segmentation
    answers: MaskCache


@dataclass(frozen=True)
class MaskSharing:
    """What one cell reuses of `MASK_SOURCE`, or keeps for others where it is by that method.

    `MASK_SOURCE` keeps every answer, whether or not another cell reuses them: 155 KB for 24 images of 28x28, beside
    302 KB of maps; 9 KB an image of 29 segments under 1,000 samples; 29 KB for the 4,096 masks of 12 segments.

    Attributes:
        cell: The cell.
        reused: The answers it may reuse, or None.
    """

    cell: Cell
    reused: ReusedMasks | None

    def queue(
        self, model: ModelUnderTest, images: Images, targets: Labels, segments: Segments | None, rows: slice
    ) -> MaskQueue | None:
        """The queue for some of the cell's images; None for a method that neither keeps nor reuses answers.

        Args:
            model: The model to explain.
            images: Float32 (n, C, H, W) in [0, 1].
            targets: int64 (n,).
            segments: int64 (n, H, W), or None for methods by pixel.
            rows: Their positions among the cell's images.
        """
        if segments is None or (self.reused is None and self.cell.method != MASK_SOURCE):
            return None
        queue = queue_of(model, self.cell, images, targets, segments)
        if self.reused is not None:
            queue.preload(self.reused.answers.part(rows))
        return queue

    def step_tensors(self, queue: MaskQueue | None) -> dict[str, Tensor]:
        """What a step of the cell keeps of a queue, by name.

        Args:
            queue: As `queue` gave it, after the method ran.
        """
        if queue is None:
            return {}
        answers = queue.answers().arrays() if self.cell.method == MASK_SOURCE else {}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in answers.items()}
        return tensors | {_REUSED: torch.tensor([queue.reused], device="cpu")}

    def arrays(self, steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Array]:
        """The arrays that the evidence of `MASK_SOURCE` keeps for others.

        Args:
            steps: The tensors of each step.
        """
        if self.cell.method != MASK_SOURCE or not steps:
            return {}
        caches = [MaskCache.of({name: tensor.numpy() for name, tensor in step.items()}) for step in steps]
        return concatenate_caches(caches).arrays()

    def facts(self, steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """For the report, how many masks were reused, by the method that evaluated them.

        Args:
            steps: The tensors of each step.
        """
        return {} if self.reused is None else {"shared": {MASK_SOURCE: int(sum(step[_REUSED] for step in steps))}}


def sharing(context: Context, cell: Cell, device: torch.device) -> MaskSharing:
    """What a cell reuses or keeps.

    Where `MASK_SOURCE` failed there is nothing to reuse, and the method evaluates its masks itself: as true an answer,
    which stands when a later run mends the failure.

    Args:
        context: Gives the evidence of the cell's inputs.
        cell: The cell.
        device: Of the model.
    """
    try:
        evidence = context.evidence(MASKS) if MASKS in cell.inputs else None
    except (AuditError, NotApplicable):
        evidence = None
    return MaskSharing(cell, None if evidence is None else _reused(evidence, device))


def _reused(evidence: Evidence, device: torch.device) -> ReusedMasks:
    description = evidence.facts_as(ExplanationFacts).segments or NO_NOTE
    segmentation = Segmentation(load_array(evidence, "segments", device), description)
    return ReusedMasks(load_array(evidence, "targets", device), segmentation, MaskCache.of(evidence.arrays))


def same_draws(context: Context, explained: Evidence) -> MaskCache | None:
    """The masks that an explanation took from another method's; None where it drew its own.

    A map that is compared with it must take the same ones, or sampling passes for a difference.

    Args:
        context: Gives the evidence of the cell's inputs.
        explained: The explanation.
    """
    return MaskCache.of(context.evidence(MASKS).arrays) if explained.facts_as(ExplanationFacts).shared else None


def drawing_queue(
    model: ModelUnderTest,
    cell: Cell,
    images: Images,
    targets: Labels,
    segments: Segments | None,
    draws: MaskCache | None,
) -> MaskQueue | None:
    """A queue without answers that offers masks, for images that were moved or for another model.

    Args:
        model: The model to explain.
        cell: Says output and baseline.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: int64 (N,).
        segments: int64 (N, H, W), or None for methods by pixel.
        draws: The masks to offer; without any there is no queue.
    """
    if draws is None or segments is None:
        return None
    queue = queue_of(model, cell, images, targets, segments)
    queue.preload(draws, outputs=False)
    return queue


def queue_of(model: ModelUnderTest, cell: Cell, images: Images, targets: Labels, segments: Segments) -> MaskQueue:
    """Make a queue for what a cell explains.

    Args:
        model: The model to explain.
        cell: Names the output and the baseline.
        images: Images (N, C, H, W) in [0, 1].
        targets: The classes to explain, int64 (N,).
        segments: Segments of the images, int64 (N, H, W).

    Returns:
        A queue without answers.
    """
    settings = ExplanationSettings.of(cell)
    spec = build_shared_specs(
        model, images, targets=targets, output=settings.output, baseline=settings.baseline, segments=segments
    )
    return spec.masks(model, images)
