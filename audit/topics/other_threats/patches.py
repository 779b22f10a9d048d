"""Patches: the search for one, and for the best of those towards each of some classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial

import torch

from audit.adversarial.restarts import is_adversarial
from audit.attacks.patch import PatchThreat, patch
from audit.core.errors import UsageError
from audit.core.precise import precise
from audit.core.types import Batch, Images
from audit.execution.resumable import ResumableLoop
from audit.topics.other_threats.proposal import ThreatRequest


@dataclass(frozen=True)
class TargetedPatch:
    """A patch towards one class.

    Attributes:
        label: The class.
        moved: Share of the images it was made on that it sends there, in [0, 1]; None where all are of that class.
        paint: Float32 (1, C, H, W).
    """

    label: int
    moved: float | None
    paint: Images


def patch_threat(request: ThreatRequest) -> PatchThreat:
    """The square that the settings of a cell ask for.

    Args:
        request: What the patch is tried on.

    Raises:
        UsageError: They name no area.
    """
    if request.settings.area is None:
        raise UsageError("A patch needs an area; give it in the settings of the cell.")
    return PatchThreat(request.settings.area)


def make_patch(request: ThreatRequest, made_on: Batch, threat: PatchThreat) -> Images:
    """One patch for some images, float32 (1, C, H, W).

    Args:
        request: Gives the model and the settings of the attack.
        made_on: The images, which say too what counts as misclassified.
        threat: The square.
    """
    return patch(request.model, made_on, threat, request.draws(made_on, "patch"), **request.settings.attack)


def with_target(batch: Batch, label: int, classes: int) -> Batch:
    """The same examples, adversarial only when classified as one class.

    Args:
        batch: The examples.
        label: The class.
        classes: How many there are.
    """
    target = torch.zeros(len(batch), classes, dtype=torch.bool, device=batch.labels.device)
    target[:, label] = True
    return replace(batch, adversarial_classes=target)


def best_targeted_patch(request: ThreatRequest, made_on: Batch, threat: PatchThreat, labels: range) -> TargetedPatch:
    """Of the patches towards each class, the one that moves most of the images it was made on.

    Args:
        request: Gives the model, the settings of the attack and the checkpoint of the cell.
        made_on: The images.
        threat: The square.
        labels: The classes.

    Raises:
        Interrupted: The user asked to stop; the best so far is kept.
    """
    model = request.model
    loop = ResumableLoop(request.context, model, len(labels), "making a patch towards each class")
    best = TargetedPatch(**loop.facts, paint=loop.state["paint"].to(model.device)) if loop.facts else None
    for done, label in enumerate(labels[loop.done :], loop.done + 1):
        others = with_target(made_on, label, len(model.classes)).select(made_on.labels != label)
        paint = make_patch(request, others, threat)
        broken = precise(is_adversarial(model, others, threat.painted(others.images, paint)))
        made = TargetedPatch(label, float(broken.mean()) if len(others) else None, paint)
        best = best_patch([best, made]) if best else made
        loop.round_done(done, partial(dict, paint=best.paint), {"label": best.label, "moved": best.moved})
    assert best is not None  # there is at least one class
    return best


def best_patch(patches: Iterable[TargetedPatch]) -> TargetedPatch:
    """The patch that moves most of the images it was made on; of several such the first.

    Args:
        patches: At least one.
    """
    return max(patches, key=lambda patch: -1.0 if patch.moved is None else patch.moved)
