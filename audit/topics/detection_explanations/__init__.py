"""Detection explanations: what in the image a found box rests on, judged by deletion, insertion and the boxes."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.detection_explanations.section import BoxMethodRow, ExplainedBox


class DetectionExplanationsConfig(ConfigTable):
    """Which found boxes are explained, and by what."""

    examples: int = Field(12, ge=1, description="images whose boxes are explained")
    boxes: int = Field(2, ge=1, description="boxes an image, those of the highest scores")
    methods: tuple[str, ...] = Field(
        ("d-rise", "box-saliency", "box-grad-cam"), description="or all: every one there is"
    )
    masks: int = Field(300, ge=16, description="masks of D-RISE an image")
    steps: int = Field(12, ge=2, description="steps of deletion and insertion")
    pictures: int = Field(4, ge=0, description="boxes that are shown with their maps")


TOPIC = Topic(
    name="detection_explanations",
    section="detection_explanations",
    order=1400,
    priority=40,
    studies={
        "box-explanation": "detection_explanations.examples, detection_explanations.masks",
        "box-controls": "detection_explanations.examples, detection_explanations.steps",
    },
    config=DetectionExplanationsConfig,
    presets={
        "standard": {"examples": 50, "masks": 1000, "methods": ("all",)},
        "full": {"examples": 200, "masks": 5000, "methods": ("all",)},
    },
    minimum={"detection_explanations.examples": 10},
    document={"box_methods": BoxMethodRow, "explained_boxes": ExplainedBox},
    task="detection",
)
