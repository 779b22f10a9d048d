"""What a threat is tried on, and the changed images that it proposes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from audit.adversarial.verify import Threat
from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS, Norm, no_steps_within
from audit.core.types import Batch, Images, PassCount
from audit.execution.context import Context
from audit.models.under_test import ModelUnderTest
from audit.topics.other_threats.facts import MIN_OTHER_THREAT_IMAGES, PART_OF_THREATS, OtherThreatsSettings


@dataclass(frozen=True)
class ThreatRequest:
    """What a threat is to be tried on.

    Attributes:
        context: The context of the study.
        cell: The cell.
        model: The model under attack.
        batch: All examples of the cell, on the model's device.
    """

    context: Context
    cell: Cell
    model: ModelUnderTest
    batch: Batch

    @property
    def settings(self) -> OtherThreatsSettings:
        """The settings of the cell."""
        return OtherThreatsSettings.of(self.cell)

    @property
    def ball(self) -> ThreatModel:
        """The threat model of the cell.

        Raises:
            NotApplicable: Its ball is not convex.
        """
        threat = self.cell.threat or {}
        if threat["norm"] not in CONVEX_NORMS:
            raise NotApplicable(no_steps_within(threat["norm"]))
        return ThreatModel(threat["norm"], threat["eps"])

    @property
    def norm(self) -> Norm:
        """The norm of the ball; that of single pixels where a pose or a patch may change one by any amount."""
        norm: Norm = (self.cell.threat or {}).get("norm", "linf")
        return norm

    def draws(self, batch: Batch, purpose: str) -> Generators:
        """One generator per example.

        Args:
            batch: The examples.
            purpose: What the draws are for.
        """
        return Generators.of(batch.ids, seed=self.cell.seed, purpose=purpose, device=self.model.device)

    def halves(self) -> tuple[Tensor, Tensor]:
        """Positions of the examples to make a change on, and of those to score it on: disjoint.

        A part begins at an even position, so that its halves are those of all examples.

        Returns:
            int64 (N / 2,) each.

        Raises:
            NotApplicable: There are fewer than `MIN_OTHER_THREAT_IMAGES` examples.
        """
        if len(self.batch) < MIN_OTHER_THREAT_IMAGES and self.cell.study != PART_OF_THREATS:
            raise NotApplicable(
                note(
                    "universal_few",
                    "A change for all images is made on one half and scored on the other; {given} images are fewer "
                    "than the {fewest} that takes.",
                    given=len(self.batch),
                    fewest=MIN_OTHER_THREAT_IMAGES,
                )
            )
        index = torch.arange(len(self.batch), device=self.batch.labels.device)
        return index[0::2], index[1::2]


@dataclass(frozen=True)
class ThreatProposal:
    """Changed images for the verifier to judge.

    Attributes:
        threat: The limits in words.
        index: Positions of the scored examples in the batch, int64 (M,).
        batch: The scored examples.
        proposals: Their changed images, float32 (M, C, H, W).
        bounds: The limits, which the verifier enforces.
        control: The images under a change of the same size that does not depend on the model, as `proposals`.
        made_on: Number of images the change was made on.
        target: The class it aims at; empty for any other than the right one.
        made_by: Architecture of the surrogate; empty without one.
        agreement: Share of images on which surrogate and model predict the same class; None without a surrogate.
        surrogate_passes: Passes through the surrogate.
    """

    threat: str
    index: Tensor
    batch: Batch
    proposals: Images
    bounds: Threat
    control: Images
    made_on: int = 0
    target: str = ""
    made_by: str = ""
    agreement: float | None = None
    surrogate_passes: PassCount = field(default_factory=PassCount)
