"""A search for planted triggers: whether a suspiciously small patch sends every image to one class."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.backdoor.section import TriggerRow


class BackdoorConfig(ConfigTable):
    """The search for a planted trigger."""

    examples: int = Field(0, ge=0, description="search for a planted trigger with this many images")


TOPIC = Topic(
    name="backdoor",
    section="robustness",
    order=260,
    studies={"backdoor": "backdoor.examples", "backdoor-part": "backdoor.examples, chunk"},
    config=BackdoorConfig,
    presets={"standard": {"examples": 512}, "full": {"examples": 2000}},
    minimum={"backdoor.examples": 10},
    document={"triggers": TriggerRow},
    former_keys={"robustness.backdoor_examples": "backdoor.examples"},
)
