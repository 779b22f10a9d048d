"""For whom the model fails: kinds of images and groups on which it is right, or withstands attack, less often."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.slices.section import GroupsRow, SliceRow


class SlicesConfig(ConfigTable):
    """The search for kinds of images on which the model is weaker."""

    examples: int = Field(2000, ge=0, description="images that slices are sought in, at most; 0 seeks none")
    gap: float = Field(
        0.1, ge=0, le=1, description="the most by which groups of a column of the data may differ in accuracy"
    )


TOPIC = Topic(
    name="slices",
    section="slices",
    order=320,
    priority=45,
    studies={"slices": "slices.examples"},
    config=SlicesConfig,
    presets={"standard": {"examples": 10_000}, "full": {"examples": 50_000}},
    minimum={"slices.examples": 200},
    document={"weak_slices": SliceRow, "groups": GroupsRow},
)
