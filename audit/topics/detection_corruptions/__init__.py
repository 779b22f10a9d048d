"""mAP of a detector on images corrupted by noise, blur, weather or compression."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.detection_corruptions.section import DetectionCorruptionRow, RelativePrecisionRow


class DetectionCorruptionConfig(ConfigTable):
    """How much of a detector's mAP must be left under corruptions."""

    kept: float = Field(0.5, ge=0, le=1, description="the least share of clean mAP that is left on average")


TOPIC = Topic(
    name="detection_corruptions",
    section="detection_corruptions",
    order=300,
    priority=30,
    studies={"detection-corruption": "corruptions.examples, corruptions.severities"},
    config=DetectionCorruptionConfig,
    document={"detection_corruptions": DetectionCorruptionRow, "relative_precision": RelativePrecisionRow},
    task="detection",
)
