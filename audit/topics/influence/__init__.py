"""The training images behind an answer: those the model sees alike, those that support it and those that oppose it."""

from typing import Literal

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.influence.section import InfluenceRow, SuspectRow


class InfluenceConfig(ConfigTable):
    """Training images behind the answers."""

    examples: int = Field(24, ge=0, description="look for the training images behind this many answers")
    training: int = Field(1000, ge=50, description="among this many training images at most, balanced over the classes")
    count: int = Field(5, ge=1, le=50, description="training images named of each kind")
    method: Literal["tracin", "ek-fac"] = Field(
        "tracin", description="over the last layer, or over every layer by EK-FAC, which needs audit[influence]"
    )
    refitted: int = Field(6, ge=0, description="answers whose supporters are left out and the last layer fitted anew")


TOPIC = Topic(
    name="influence",
    section="explanations",
    order=480,
    priority=70,
    studies={"influence": "influence.examples, influence.training"},
    config=InfluenceConfig,
    presets={
        "standard": {"examples": 64, "training": 20_000, "refitted": 20},
        "full": {"examples": 200, "training": 100_000, "refitted": 50},
    },
    minimum={"influence.examples": 4},
    document={"influence": InfluenceRow, "suspects": SuspectRow},
)
