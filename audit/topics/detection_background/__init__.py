"""Detection background: whether objects of a class are found by their surroundings."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.detection_background.section import BackgroundRow


class DetectionBackgroundConfig(ConfigTable):
    """How many images are probed, and how much surroundings may do."""

    examples: int = Field(100, ge=2, description="images whose found objects are hidden and moved")
    found_hidden: float = Field(
        0.1, ge=0, le=1, description="the largest share of a class's objects that may still be found when hidden"
    )
    lost_moved: float = Field(
        0.3, ge=0, le=1, description="the largest share of a class's objects that may be lost in other surroundings"
    )


TOPIC = Topic(
    name="detection_background",
    section="detection_background",
    order=1450,
    priority=45,
    studies={"detection-background": "detection_background.examples"},
    config=DetectionBackgroundConfig,
    presets={"standard": {"examples": 300}, "full": {"examples": 2000}},
    minimum={"detection_background.examples": 20},
    document={"detection_background": BackgroundRow},
    task="detection",
)
