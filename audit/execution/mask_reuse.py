"""Masks that the cell of one method had answered, spent by the cell of another (see `audit.explanation.mask_reuse`)."""

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
from audit.core.types import Images, Labels, Segments
from audit.execution.context import Context
from audit.execution.explanation_inputs import load_array
from audit.explanation.mask_reuse import MASK_SOURCE, build_shared_specs
from audit.masking.cache import MaskCache, joined
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import Segmentation
from audit.models.under_test import ModelUnderTest
from audit.planning.explanations import MASKS
from audit.planning.settings import ExplanationSettings

_RECALLED = "recalled"


@dataclass(frozen=True)
class ReusedMasks:
    """What the lender asked of the same images: `answers` hold for these `targets` and segments alone."""

    targets: Labels
    made: Segmentation
    answers: MaskCache


@dataclass(frozen=True)
class MaskSharing:
    """A cell's part in it: what it was `lent`, and what the queues of its images learn and recall.

    The lender keeps everything it learned, whoever is there to spend it: 155 KB for 24 images of 28x28, beside 302 KB
    of maps; 9 KB an image of 29 segments under 1,000 samples; 29 KB for the 4,096 masks of 12 segments.
    """

    cell: Cell
    lent: ReusedMasks | None

    def queue(
        self, model: ModelUnderTest, images: Images, targets: Labels, segments: Segments | None, part: slice
    ) -> MaskQueue | None:
        """The queue for that part of the images; None for a method that neither lends nor was lent anything."""
        if segments is None or (self.lent is None and self.cell.method != MASK_SOURCE):
            return None
        queue = queue_of(model, self.cell, images, targets, segments)
        if self.lent is not None:
            queue.recall(self.lent.answers.part(part))
        return queue

    def learned(self, queue: MaskQueue | None) -> dict[str, Tensor]:
        """What a step keeps of a queue that was asked everything."""
        if queue is None:
            return {}
        answers = queue.answers().arrays() if self.cell.method == MASK_SOURCE else {}
        kept = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in answers.items()}
        return kept | {_RECALLED: torch.tensor([queue.recalled], device="cpu")}

    def arrays(self, steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Array]:
        """What the lender's evidence keeps for others."""
        if self.cell.method != MASK_SOURCE or not steps:
            return {}
        return joined([MaskCache.of({name: kept.numpy() for name, kept in step.items()}) for step in steps]).arrays()

    def facts(self, steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """For the reader: masks by the method that had asked them."""
        return {} if self.lent is None else {"shared": {MASK_SOURCE: int(sum(step[_RECALLED] for step in steps))}}


def sharing(context: Context, cell: Cell, device: torch.device) -> MaskSharing:
    """The part of `cell`. Where the lender failed there is nothing to spend, and the method asks for itself: as true an
    answer, which stands when a later run mends the lender."""
    try:
        found = context.evidence(MASKS) if MASKS in cell.inputs else None
    except (AuditError, NotApplicable):
        found = None
    return MaskSharing(cell, None if found is None else _lent(found, device))


def _lent(found: Evidence, device: torch.device) -> ReusedMasks:
    made = Segmentation(load_array(found, "segments", device), str(found.facts["segments"]))
    return ReusedMasks(load_array(found, "targets", device), made, MaskCache.of(found.arrays))


def same_draws(context: Context, explained: Evidence) -> MaskCache | None:
    """What `explained` drew its masks from, where that was another's: a map that is held against it must draw from
    there too, or sampling passes for a difference."""
    return MaskCache.of(context.evidence(MASKS).arrays) if "shared" in explained.facts else None


def drawing_queue(
    model: ModelUnderTest,
    cell: Cell,
    images: Images,
    targets: Labels,
    segments: Segments | None,
    draws: MaskCache | None,
) -> MaskQueue | None:
    """A queue that knows no answer, for images that were moved or for another model, and offers `draws`; None without
    any."""
    if draws is None or segments is None:
        return None
    queue = queue_of(model, cell, images, targets, segments)
    queue.recall(draws, outputs=False)
    return queue


def queue_of(model: ModelUnderTest, cell: Cell, images: Images, targets: Labels, segments: Segments) -> MaskQueue:
    """A queue for what the cell explains of `images`."""
    settings = ExplanationSettings.of(cell)
    question = build_shared_specs(
        model, images, targets=targets, output=settings.output, baseline=settings.baseline, segments=segments
    )
    return question.masks(model, images)
