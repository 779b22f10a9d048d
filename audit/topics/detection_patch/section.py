"""mAP, objects found and boxes faked under patches, and images before and after: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator

from audit.document.images import picture
from audit.document.model import Cost, DocumentModel, Picture, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy.section import SHOWN_SIZE, DetectionPicture, drawn_boxes
from audit.topics.detection_patch.facts import PATCH_CONDITIONS
from audit.topics.detection_patch.measured import PatchCondition, PatchedDetector, patched_detectors


class PatchedRow(DocumentModel):
    """The scored images with one thing where the patch lies.

    Attributes:
        name: "clean" for nothing, "grey", "noise" or "patch".
        mean_average_precision: Over overlaps .50 to .95, of all objects, with its interval over images.
        recall: Share of the objects beside the patch that are found from the operating score on; of all objects where
            it lies on each. None where it touches every object.
        faked: Boxes an image from that score on that overlap no object by .5.
    """

    name: str
    mean_average_precision: Proportion
    recall: Proportion | None
    faked: Proportion


class PatchedPart(DocumentModel):
    """One patch on one detector.

    Attributes:
        role: The detector's role.
        kind: "hide" (on every object), "hide-beside" or "fake" (both in the middle of the image).
        painted: Share of an image that it covers, on average, in (0, 1).
        made_on: Images it was made on, none of which is scored.
        images: Images it is scored on.
        score: The operating score on them, in [0, 1].
        conditions: Without it, under each control, and under it.
        control: The control that costs more.
        excess: mAP under that control less mAP under the patch, on the same images.
        faults: Images in which more than the patch had changed.
        cost: What making and scoring it cost.
        patch: The patch; None where the run keeps no pictures.
    """

    role: str
    kind: str
    painted: float
    made_on: int
    images: int
    score: float
    conditions: list[PatchedRow]
    control: str
    excess: Proportion
    faults: int
    cost: Cost
    patch: Picture | None


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each patch on each detector.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    parts: list[PatchedPart] = []
    pictures: list[DetectionPicture] = []
    for role in context.roles:
        for patched in patched_detectors(results, role):
            parts.append(_part(role, patched, context.pictures))
            if context.pictures:
                pictures += _pictures(role, patched, context.classes)
    return {"detection_patches": parts, "detection_patch_pictures": pictures}


def _part(role: str, patched: PatchedDetector, pictures: bool) -> PatchedPart:
    return PatchedPart(
        role=role,
        kind=patched.facts.kind,
        painted=patched.facts.painted,
        made_on=patched.facts.made_on,
        images=len(patched.objects.counts),
        score=patched.score,
        conditions=[_row(name, condition) for name, condition in patched.conditions.items()],
        control=patched.control,
        excess=proportion(patched.excess),
        faults=patched.facts.faults,
        cost=cost_of([patched.entry]),
        patch=picture(patched.entry.evidence.arrays["paint"][0]) if pictures else None,
    )


def _row(name: str, condition: PatchCondition) -> PatchedRow:
    return PatchedRow(
        name=name,
        mean_average_precision=proportion(condition.precision),
        recall=None if condition.recall is None else proportion(condition.recall),
        faked=proportion(condition.faked),
    )


def _pictures(role: str, patched: PatchedDetector, classes: tuple[str, ...]) -> Iterator[DetectionPicture]:
    """The first images that have objects, without the patch, under the control and under the patch: their kinds say
    which patch and which of these."""
    arrays = patched.entry.evidence.arrays
    for column, position in enumerate(arrays["pictured"].tolist() if "pictured" in arrays else []):
        for name in ("clean", patched.control, "patch"):
            condition, image = patched.conditions[name], arrays["pictures"][PATCH_CONDITIONS.index(name)][column]
            boxes = drawn_boxes(patched.objects, condition.found, condition.errors, position, classes, image.shape[1:])
            yield DetectionPicture(
                role=role,
                id=f"#{2 * position + 1}",
                kinds=[patched.facts.kind, name],
                image=picture(image, largest=SHOWN_SIZE),
                boxes=list(boxes),
            )
