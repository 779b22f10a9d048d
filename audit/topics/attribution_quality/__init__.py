"""Quality of attributions: infidelity, ROAD, sensitivity, randomised weights, other seeds, sparseness."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic


class AttributionQualityConfig(ConfigTable):
    """Measures of every attribution method."""

    enabled: bool = Field(False, description="infidelity, ROAD, sensitivity, randomisation, ... of every method")


TOPIC = Topic(
    name="attribution_quality",
    section="explanations",
    order=430,
    folded=True,
    studies={
        "attribution-quality": "explanations.examples, explanations.methods",
        "attribution-quality-part": "explanations.examples, explanations.methods, chunk",
    },
    config=AttributionQualityConfig,
    presets={"standard": {"enabled": True}, "full": {"enabled": True}},
    measures=True,
    former_keys={"explanations.judging": "attribution_quality.enabled"},
    former_names={"judging": "attribution-quality"},
)
