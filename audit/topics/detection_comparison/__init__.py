"""Detectors beside each other on the same images: the first of a run against the last, and what two runs share."""

from audit.core.topic import Topic
from audit.topics.detection_comparison.section import PrecisionChange, SampledPrecision

TOPIC = Topic(
    name="detection_comparison",
    section="detection_comparison",
    order=1600,
    priority=60,
    document={"detection_precision": SampledPrecision, "detection_comparison": PrecisionChange},
    task="detection",
)
