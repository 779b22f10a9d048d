"""mAP under attack by aim and by eps, and images before and after: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.document.images import picture
from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.detection_errors import detection_errors
from audit.metrics.operating_score import best_f1_score
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy.measured import class_count
from audit.topics.detection_accuracy.section import SHOWN_SIZE, DetectionPicture, drawn_boxes
from audit.topics.detection_robustness.measured import (
    AttackedDetector,
    MeasuredAttack,
    attacked_detector,
    fall_under,
    map_under,
)


class AttackedAim(DocumentModel):
    """One attack at the eps of the verdict.

    Attributes:
        name: What it wants: "vanish", "fabricate", "mislabel" or "untargeted"; "noise" for the control.
        mean_average_precision: Over overlaps .50 to .95, with its interval over images.
        fall: mAP before less mAP after, on the same images.
        outcomes: By kind, how many detections from the operating score on; and "missed", of objects.
        faults: Proposals that had left the ball and were brought back.
        cost: What it cost.
    """

    name: str
    mean_average_precision: Proportion
    fall: Proportion
    outcomes: dict[str, int]
    faults: int
    cost: Cost


class DetectionCurvePoint(DocumentModel):
    """mAP at one eps, of each image under the attack that left least of it.

    Attributes:
        eps: The size of the ball; 0 for clean images.
        robust: mAP, with its interval over images.
    """

    eps: float
    robust: Proportion


class DetectionAttackPart(DocumentModel):
    """One detector under attack.

    Attributes:
        role: Its role.
        norm: The norm of the ball.
        eps: Its size in the verdict, in units of pixel value.
        images: Number of images.
        score: The operating score on clean images, from which errors are counted, in [0, 1].
        curve: By eps, clean images first.
        aims: By aim, the one that costs most first.
        clean_outcomes: `AttackedAim.outcomes` before any attack.
        cost: What all attacks cost.
    """

    role: str
    norm: str
    eps: float
    images: int
    score: float
    curve: list[DetectionCurvePoint]
    aims: list[AttackedAim]
    clean_outcomes: dict[str, int]
    cost: Cost


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each detector of the run.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    parts: list[DetectionAttackPart] = []
    pictures: list[DetectionPicture] = []
    for role in context.roles:
        measured = attacked_detector(results, role, class_count(results, role))
        if measured is None:
            continue
        score = best_f1_score(measured.clean)
        parts.append(_part(role, measured, score))
        if context.pictures:
            pictures += _pictures(role, measured, score, context.classes)
    return {"detection_attacks": parts, "detection_attack_pictures": pictures}


def _part(role: str, measured: AttackedDetector, score: float) -> DetectionAttackPart:
    curve = [DetectionCurvePoint(eps=0.0, robust=proportion(measured.clean_map))]
    curve += [DetectionCurvePoint(eps=eps, robust=proportion(robust)) for eps, (_, robust) in measured.robust.items()]
    aims = [
        AttackedAim(
            name=_name(attack),
            mean_average_precision=proportion(map_under(attack)),
            fall=proportion(fall_under(measured, attack.matches)),
            outcomes=dict(detection_errors(measured.objects, attack.found, score).counts),
            faults=sum(entry.evidence.facts["faults"] for entry in attack.entries),
            cost=cost_of(attack.entries),
        )
        for attack in _of_the_verdict(measured)
    ]
    return DetectionAttackPart(
        role=role,
        norm=measured.attacks[0].facts.norm,
        eps=measured.headline,
        images=len(measured.objects.counts),
        score=score,
        curve=curve,
        aims=sorted(aims, key=lambda aim: aim.mean_average_precision.estimate),
        clean_outcomes=dict(detection_errors(measured.objects, measured.found, score).counts),
        cost=cost_of([entry for attack in measured.attacks for entry in attack.entries]),
    )


def _name(attack: MeasuredAttack) -> str:
    return "noise" if attack.facts.control else attack.facts.aim


def _of_the_verdict(measured: AttackedDetector) -> list[MeasuredAttack]:
    return [attack for attack in measured.attacks if attack.facts.eps == measured.headline]


def _pictures(
    role: str, measured: AttackedDetector, score: float, classes: tuple[str, ...]
) -> Iterator[DetectionPicture]:
    """The first images under each aim, from the operating score on; its kind is the aim."""
    for attack in _of_the_verdict(measured):
        images = attack.entries[0].evidence.arrays.get("pictures", np.zeros((0, 1, 1, 1), np.uint8))
        errors = detection_errors(measured.objects, attack.found, score)
        for position, image in enumerate(images):
            boxes = drawn_boxes(measured.objects, attack.found, errors, position, classes, image.shape[1:])
            yield DetectionPicture(
                role=role,
                id=f"#{position}",
                kinds=[_name(attack)],
                image=picture(image, largest=SHOWN_SIZE),
                boxes=list(boxes),
            )
