"""Detection robustness: how much a detector still finds on images that an attack changed, and which aim costs what."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.detection_aim import DetectionAim
from audit.core.topic import Topic
from audit.topics.detection_accuracy.section import DetectionPicture
from audit.topics.detection_robustness.section import DetectionAttackPart


class DetectionRobustnessConfig(ConfigTable):
    """How detectors are attacked, and how much they must still find; norm, eps and curve are those of [robustness]."""

    examples: int = Field(100, ge=1, description="images attacked at most")
    aims: tuple[DetectionAim, ...] = Field(
        ("vanish", "fabricate", "mislabel", "untargeted"), description="what the attack wants: each is a search"
    )
    steps: int = Field(20, ge=1, description="gradient steps of each search")
    mean_average_precision: float = Field(
        0.2, ge=0, le=1, description="the least mAP at overlaps .50 to .95 under attack"
    )
    pictures: int = Field(4, ge=0, description="images shown before and after")


TOPIC = Topic(
    name="detection_robustness",
    section="detection_robustness",
    order=1200,
    priority=10,
    studies={"detection-attack": "detection_robustness.examples, detection_robustness.steps"},
    config=DetectionRobustnessConfig,
    presets={
        "standard": {"examples": 300, "steps": 50},
        "full": {"examples": 2000, "steps": 100},
    },
    minimum={"detection_robustness.examples": 20},
    document={"detection_attacks": DetectionAttackPart, "detection_attack_pictures": DetectionPicture},
    task="detection",
)
