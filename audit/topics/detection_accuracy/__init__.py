"""Detection accuracy: how much a detector finds on clean images, what kinds of error it makes, what its scores say."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.detection_accuracy.section import DetectionPart, DetectionPicture


class DetectionAccuracyConfig(ConfigTable):
    """How good a detector must be on clean images, and what is shown of its errors."""

    mean_average_precision: float = Field(
        0.4, ge=0, le=1, description="the least mAP at overlaps .50 to .95 on clean images"
    )
    calibration_error: float = Field(0.1, ge=0, le=1, description="the largest detection calibration error (D-ECE)")
    pictures: int = Field(4, ge=0, description="pictures of each kind of error")


TOPIC = Topic(
    name="detection_accuracy",
    section="detection_accuracy",
    order=100,
    priority=20,
    studies={"detection-accuracy": "fewer evaluation images"},
    config=DetectionAccuracyConfig,
    document={"detection_accuracy": DetectionPart, "detection_pictures": DetectionPicture},
    task="detection",
)
