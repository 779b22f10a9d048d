"""Patches on detectors: one patch for every image that hides objects or makes the detector find what is not there."""

from typing import Literal, get_args

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.detection_accuracy.section import DetectionPicture
from audit.topics.detection_patch.section import PatchedPart

PatchKind = Literal["hide", "hide-beside", "fake"]
PATCH_KINDS: tuple[PatchKind, ...] = get_args(PatchKind)


class DetectionPatchConfig(ConfigTable):
    """Patches that are made on one half of the images and scored on the other."""

    examples: int = Field(
        200, ge=0, description="make patches on half of this many images and score them on the others; 0 for none"
    )
    kinds: tuple[PatchKind, ...] = Field(
        PATCH_KINDS,
        description="patches that hide each object they lie on, hide objects beside them, fake objects",
    )
    area: float = Field(0.05, gt=0, lt=1, description="share of the image that a patch in the middle covers")
    object_area: float = Field(0.1, gt=0, lt=1, description="share of its box that the patch on an object covers")
    steps: int = Field(100, ge=1, description="gradient steps of each search")
    excess: float = Field(
        0.1, ge=0, le=1, description="the most mAP that a patch may cost beyond a grey or random one in its place"
    )
    pictures: int = Field(1, ge=0, description="images shown with each patch")


TOPIC = Topic(
    name="detection_patch",
    section="detection_robustness",
    order=1210,
    priority=20,
    studies={"detection-patch": "detection_patch.examples, detection_patch.steps"},
    config=DetectionPatchConfig,
    presets={
        "standard": {"examples": 400, "steps": 200},
        "full": {"examples": 2000, "steps": 500},
    },
    minimum={"detection_patch.examples": 40},
    document={"detection_patches": PatchedPart, "detection_patch_pictures": DetectionPicture},
    task="detection",
)
