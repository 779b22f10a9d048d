"""The verifier: success is judged here and nowhere else. An attack only proposes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import Tensor

from audit.adversarial.restarts import is_adversarial
from audit.core.errors import AuditError
from audit.core.types import Batch, Images
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest


class Threat(Protocol):
    """What a threat must know for its proposals to be judged: `ThreatModel` is one, and not the only one."""

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether each image is within the threat, bool (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        ...

    def project(self, images: Images, origin: Images) -> Images:
        """The images brought within it.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        ...

    def distance(self, images: Images, origin: Images) -> Tensor:
        """How far each image went, in the threat's own measure, float64 (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        ...


@dataclass(frozen=True)
class Verdicts:
    """What was judged, and the judgement, one row an example.

    Attributes:
        images: The proposals, projected back where they had left the ball or the box, float32 (N, C, H, W).
        broken: Whether the model, asked again in fp32 eager mode, predicts a class of the goal, bool (N,).
        distance: In the threat's measure, float64 (N,).
        faults: Proposals that left the ball or the box, or were not finite: the attack's fault, bool (N,).
        survives_rounding: Whether the image still breaks the model as an 8-bit picture, bool (N,).
        margin: The highest logit in the goal less the highest outside, (N,).
    """

    images: Images
    broken: Tensor
    distance: Tensor
    faults: Tensor
    survives_rounding: Tensor
    margin: Tensor

    def select(self, index: Tensor) -> Verdicts:
        """The verdicts at `index`.

        Args:
            index: Positions, int64 or bool.
        """
        return Verdicts(*(getattr(self, column.name)[index] for column in fields(self)))


def verify(model: ModelUnderTest, batch: Batch, proposals: Images, threat: Threat) -> Verdicts:
    """Project, predict, measure again.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        proposals: One image an example, float32 (N, C, H, W).
        threat: What the proposals must obey.

    Raises:
        AuditError: When there is not one proposal an example.
    """
    origin = batch.images.to(torch.float32)
    images, faults = brought_back(proposals, origin, threat)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    logits = model.logits(images)
    broken, margins = is_adversarial_logits(logits, goal).to(origin.device), margin(logits, goal).to(origin.device)
    rounded = _breaks_rounded(model, batch, images, broken)
    return Verdicts(images, broken, threat.distance(images, origin), faults, rounded, margins)


def brought_back(proposals: Images, origin: Images, threat: Threat) -> tuple[Images, Tensor]:
    """The proposals of an attack, those that left the ball or the box, or are not finite, brought back into it.

    Args:
        proposals: One image an example, (N, C, H, W).
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: What the proposals must obey.

    Returns:
        The images, float32 (N, C, H, W), and which had left it, bool (N,).

    Raises:
        AuditError: When there is not one proposal an example.
    """
    if proposals.shape != origin.shape:
        raise AuditError(
            f"An attack returned images of shape {tuple(proposals.shape)}, where {tuple(origin.shape)} was expected: "
            "one proposal an example, in the order given. Mend the attack."
        )
    proposed = proposals.detach().to(origin.device, torch.float32)
    faults = ~threat.allows(proposed, origin)
    if not bool(faults.any()):
        return proposed, faults
    finite = torch.where(torch.isfinite(proposed), proposed, origin)
    return torch.where(faults.view(-1, 1, 1, 1), threat.project(finite, origin), proposed), faults


def _breaks_rounded(model: ModelUnderTest, batch: Batch, images: Images, broken: Tensor) -> Tensor:
    """Only what is broken is asked again."""
    index = broken.nonzero().flatten()
    survives = broken.clone()
    if len(index):
        rounded = (images[index.to(images.device)] * 255).round() / 255
        survives[index] = is_adversarial(model, batch.select(index), rounded)
    return survives
