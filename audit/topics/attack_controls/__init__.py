"""Sanity checks of the attacks: weaker attacks, growing eps, the whole box, twice the effort."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.attack_controls.section import ControlRow


class AttackControlsConfig(ConfigTable):
    """Controls of the attacks themselves."""

    examples: int = Field(0, ge=0, le=500, description="control the attacks themselves on this many images")


TOPIC = Topic(
    name="attack_controls",
    section="robustness",
    order=250,
    averaged=True,
    studies={"attack-controls": "attack_controls.examples"},
    config=AttackControlsConfig,
    presets={"standard": {"examples": 64}, "full": {"examples": 200}},
    minimum={"attack_controls.examples": 10},
    first_images={"robustness": "attack_controls.examples"},
    document={"attack_controls": ControlRow},
    former_keys={"robustness.control_examples": "attack_controls.examples"},
)
