"""What an attack on a detector wants to see, as a value of each image that it raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.detection_aim import DetectionAim
from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.objects import Candidates, Objects
from audit.core.types import Images
from audit.models.detectors.boxes import generalised_iou
from audit.models.detectors.under_test import DetectorGradient, DetectorUnderTest

_ON_AN_OBJECT = 0.5
"""From this intersection over union a box counts as on an object."""
_SURE = 1 - 1e-6
_NOTHING_LEFT = -0.05
"""A value of "vanish" above it means that no box scores .05 for any class: log(1 - .05) is -.051."""


@dataclass(frozen=True)
class DetectionObjective:
    """A value of each image that rises as the aim is met, and its gradient.

    Over the boxes that the detector considers before it suppresses any, with s their scores in (0, 1), where it gives
    them; else over the losses L that it is trained by (TOG, Chow et al. 2020, arXiv:2004.04320, section III):

    - "vanish": nothing is found. The sum of log(1 - s) over boxes and classes; else -L(x, no objects).
    - "fabricate": what is not there is found. The negative of that sum over boxes on no object; else L(x, no objects).
    - "mislabel": objects are found as something else. Over boxes on an object of class y, the sum of
      log max_{c != y} s_c + log(1 - s_y); else -L(x, the objects with the next class in order).
    - "untargeted": L(x, the objects), else "vanish" for the class of boxes on objects with "fabricate" elsewhere.

    Attributes:
        detector: The detector under attack.
        objects: What is there in each of the N images.
        aim: Which of the above.
    """

    detector: DetectorUnderTest
    objects: Sequence[Objects]
    aim: DetectionAim

    def __post_init__(self) -> None:
        detector = self.detector
        if not detector.gives_gradients or not (detector.gives_losses or detector.gives_candidates):
            raise NotApplicable(
                note("detection_no_gradients", "The detector gives no gradients, which the attack climbs.")
            )
        if self.aim == "mislabel" and len(detector.classes) < 2:
            raise NotApplicable(
                note("detection_one_class", "The detector knows one class, so nothing can be found as another.")
            )

    @property
    def by_losses(self) -> bool:
        """Whether the value is made of the losses that the detector is trained by."""
        detector = self.detector
        return detector.gives_losses and (self.aim == "untargeted" or not detector.gives_candidates)

    @property
    def enough(self) -> float:
        """A value from which on the aim is met and an image need not be changed further."""
        return _NOTHING_LEFT if self.aim == "vanish" and not self.by_losses else torch.inf

    def gradient(self, images: Images, index: Tensor) -> DetectorGradient:
        """The value of some of the images, changed, and its gradient.

        Args:
            images: Float32 (M, C, H, W) in [0, 1].
            index: Which of the N images they are, int64 (M,).
        """
        chosen = [self.objects[i] for i in index.tolist()]
        if not self.by_losses:
            return self.detector.candidate_gradient(images, self._of_candidates(chosen))
        sign = -1 if self.aim in ("vanish", "mislabel") else 1
        answer = self.detector.loss_gradient(images, self._wanted(chosen))
        return DetectorGradient(sign * answer.values, sign * answer.gradient)

    def values(self, images: Images, index: Tensor) -> Tensor:
        """The value of some of the images, (M,), without its gradient.

        Args:
            images: Float32 (M, C, H, W) in [0, 1].
            index: Which of the N images they are, int64 (M,).
        """
        chosen = [self.objects[i] for i in index.tolist()]
        if self.by_losses:
            sign = -1 if self.aim in ("vanish", "mislabel") else 1
            return sign * self.detector.losses(images, self._wanted(chosen))
        objective = self._of_candidates(chosen)
        return objective(self.detector.candidates(images), slice(0, len(images)))

    def _wanted(self, chosen: Sequence[Objects]) -> list[Objects]:
        """The objects that the loss is asked about."""
        if self.aim == "untargeted":
            return list(chosen)
        if self.aim == "mislabel":
            classes = len(self.detector.classes)
            return [Objects(o.boxes, (o.labels + 1) % classes, o.areas, o.crowd) for o in chosen]
        return [Objects(o.boxes[:0], o.labels[:0], o.areas[:0], o.crowd[:0]) for o in chosen]

    def _of_candidates(self, chosen: Sequence[Objects]) -> _OfCandidates:
        return _OfCandidates([some.to(self.detector.device) for some in chosen], self.aim)


@dataclass(frozen=True)
class _OfCandidates:
    """The value as a function of the candidates of the images at `rows`."""

    objects: Sequence[Objects]
    aim: DetectionAim

    def __call__(self, candidates: list[Candidates], rows: slice) -> Tensor:
        parts = zip(candidates, self.objects[rows], strict=True)
        return torch.stack([self._value(some, there) for some, there in parts])

    def _value(self, candidates: Candidates, there: Objects) -> Tensor:
        absent = torch.log1p(-candidates.scores.clamp(max=_SURE))
        if self.aim == "vanish":
            return absent.sum()
        on_object, label = _owners(candidates, there)
        nothing = -absent[~on_object].sum()
        if self.aim == "fabricate":
            return nothing
        rows = on_object.nonzero().flatten()
        right = absent[rows, label[rows]].sum()
        if self.aim == "untargeted":
            return right + nothing
        others = candidates.scores[rows].scatter(1, label[rows, None], 0.0)
        return right + others.amax(1).clamp(min=1e-12).log().sum() if len(rows) else candidates.scores.sum() * 0


def _owners(candidates: Candidates, there: Objects) -> tuple[Tensor, Tensor]:
    """Whether each box lies on an object, bool (K,), and the class of that one, int64 (K,)."""
    single = ~there.crowd
    if not bool(single.any()):
        nowhere = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.boxes.device)
        return nowhere, nowhere.long()
    overlap, _ = generalised_iou(candidates.boxes.detach()[:, None], there.boxes[single][None])
    most, owner = overlap.max(1)
    return most >= _ON_AN_OBJECT, there.labels[single][owner]
