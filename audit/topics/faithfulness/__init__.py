"""Deletion and insertion: whether removing the pixels a map ranks first hurts more than removing random ones."""

from typing import Literal

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.faithfulness.section import FaithfulnessRow


class FaithfulnessConfig(ConfigTable):
    """Deletion and insertion of the pixels that a map ranks first."""

    steps: int = Field(8, ge=2, description="equal steps over all pixels; which images are taken matters far more")
    fills: tuple[Literal["mean", "blur"], ...] = Field(
        ("mean",), min_length=1, description="what replaces removed pixels, each in turn; the first is judged"
    )
    blurred: bool = Field(False, description="each map blurred too, as a control: whether its detail matters")


TOPIC = Topic(
    name="faithfulness",
    section="explanations",
    order=410,
    folded=True,
    studies={
        "faithfulness": "explanations.examples, faithfulness.steps, faithfulness.fills",
        "faithfulness-part": "explanations.examples, faithfulness.steps, faithfulness.fills, chunk",
        "faithfulness-baselines": "explanations.examples, faithfulness.steps, faithfulness.fills",
        "faithfulness-baselines-part": "explanations.examples, faithfulness.steps, faithfulness.fills, chunk",
    },
    config=FaithfulnessConfig,
    presets={
        "standard": {"fills": ("mean", "blur"), "blurred": True},
        "full": {"steps": 24, "fills": ("mean", "blur"), "blurred": True},
    },
    document={"faithfulness": FaithfulnessRow},
    former_names={"controls": "faithfulness-baselines"},
)
