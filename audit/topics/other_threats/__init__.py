"""Threats other than a norm ball: rotation and translation, a universal perturbation, a patch, transfer."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.other_threats.section import ThreatRow


class OtherThreatsConfig(ConfigTable):
    """Threats that no norm ball around an image describes."""

    examples: int = Field(
        0, ge=0, description="try poses, one change for all images, patches and transfer on this many images"
    )
    rotation: float = Field(30.0, ge=0, le=180, description="degrees either way that an image may be turned")
    translation: float = Field(0.1, ge=0, lt=1, description="share of the shorter side that it may be moved")
    patch_area: float = Field(0.05, gt=0, lt=1, description="share of the image that a patch covers")


TOPIC = Topic(
    name="other_threats",
    section="robustness",
    order=240,
    averaged=True,
    studies={"other-threats": "other_threats.examples", "other-threats-part": "other_threats.examples, chunk"},
    config=OtherThreatsConfig,
    presets={"standard": {"examples": 100}, "full": {"examples": 2000}},
    minimum={"other_threats.examples": 20},
    document={"other_threats": ThreatRow},
    former_keys={
        "robustness.further_examples": "other_threats.examples",
        "robustness.rotation": "other_threats.rotation",
        "robustness.translation": "other_threats.translation",
        "robustness.patch_area": "other_threats.patch_area",
    },
    former_names={"further-threats": "other-threats", "further_threats": "other_threats"},
)
