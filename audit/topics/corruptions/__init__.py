"""Accuracy on images corrupted by noise, blur, weather or compression."""

from audit.core.topic import Topic
from audit.topics.corruptions.section import CorruptedAccuracyRow, CorruptionRow

TOPIC = Topic(
    name="corruptions",
    section="corruptions",
    order=300,
    priority=30,
    studies={"corruption": "corruptions.examples, corruptions.severities"},
    presets={
        "standard": {"examples": 1000, "names": ("all",)},
        "full": {"examples": 10_000, "names": ("all",)},
    },
    minimum={"corruptions.examples": 20},
    sequential=("corruption",),
    stopping_reads={"corruption": ("accuracy",)},
    document={"corruptions": CorruptionRow, "corrupted_accuracy": CorruptedAccuracyRow},
)
