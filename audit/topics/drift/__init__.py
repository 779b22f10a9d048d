"""Drift: whether a map stays while the prediction does, and how maps differ between models."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic


class DriftConfig(ConfigTable):
    """How maps move."""

    enabled: bool = Field(False, description="how maps move at constant prediction, and from model to model")


TOPIC = Topic(
    name="drift",
    section="explanations",
    order=440,
    folded=True,
    studies={
        "drift": "explanations.examples, explanations.methods",
        "drift-part": "explanations.examples, explanations.methods, chunk",
    },
    config=DriftConfig,
    presets={"standard": {"enabled": True}, "full": {"enabled": True}},
    measures=True,
    former_keys={"explanations.drift": "drift.enabled"},
)
