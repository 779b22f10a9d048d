"""What an attribution explains: which output, against which baseline, over which segments."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.core.types import Attributions, Images, Labels, Logits, Segments
from audit.masking.outputs import Output, score
from audit.masking.queue import MaskQueue
from audit.models.under_test import ModelUnderTest


@dataclass(frozen=True)
class ExplanationSpec:
    """The question put to a method. `targets` int64 (N,), the class explained of each image; `output` the
    quantity; `baseline` float32 (N, C, H, W), the reference input; `segments` int64 (N, H, W) numbered
    0..n-1 each, or None for methods by pixel, and `segmentation` how they were made; `generators` one an image;
    `queue` answers masks of these images already asked for by another method; `references` (B, C, H, W) are the
    background images of methods that average over some."""

    targets: Labels
    output: Output
    baseline: Images
    generators: Generators
    segments: Segments | None = None
    segmentation: str = ""
    queue: MaskQueue | None = None
    references: Images | None = None

    def select(self, index: Tensor) -> ExplanationSpec:
        """The question for the images at `index` (int64 or bool)."""
        return replace(
            self,
            targets=self.targets[index],
            baseline=self.baseline[index],
            generators=self.generators.select(index),
            segments=None if self.segments is None else self.segments[index],
            queue=None,
        )

    def part(self, part: slice) -> ExplanationSpec:
        """The question for a stretch of the images."""
        return replace(
            self,
            targets=self.targets[part],
            baseline=self.baseline[part],
            generators=Generators(self.generators.keys[part]),
            segments=None if self.segments is None else self.segments[part],
            queue=None,
        )

    def score(self, logits: Logits, targets: Labels | None = None) -> Tensor:
        """The explained quantity of each row, (M,); `targets` int64 (M,) when rows are not the images."""
        return score(logits, self.targets if targets is None else targets, self.output)

    def masks(self, model: ModelUnderTest, images: Images) -> MaskQueue:
        """The queue to ask about segment masks of these images."""
        if self.queue is not None:
            return self.queue
        if self.segments is None:
            raise NotApplicable("The method works on segments and none were given.")
        targets, output = self.targets, self.output

        def owned(logits: Logits, owners: Labels) -> Tensor:
            return score(logits, targets[owners], output)

        return MaskQueue(model, images, self.baseline, self.segments, owned)


@dataclass(frozen=True)
class Attribution:
    """What a method answers: `attributions` (N, C or 1, H, W) float32; `quality` of each image's answer
    (LIME's R2, the completeness residual), name to (N,) values; `maps` further tensors (N, C or 1, H, W), such
    as standard errors; `facts` small JSON values for the reader."""

    attributions: Attributions
    quality: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)
