"""Robust accuracy: how often the model stays right when an adversary may change the image within a norm ball."""

from audit.core.topic import Topic
from audit.topics.robustness.section import DistanceRow, RobustnessPart

TOPIC = Topic(
    name="robustness",
    section="robustness",
    order=220,
    priority=10,
    averaged=True,
    studies={
        "robustness": "robustness.examples, robustness.battery",
        "battery-examination": "robustness.examples, robustness.battery",
        "battery-stretch": "robustness.examples, robustness.battery, chunk",
        "battery-choice": "robustness.examples, robustness.battery, chunk",
    },
    presets={
        "standard": {"examples": 1000, "battery": "standard"},
        "full": {"examples": 10_000, "battery": "full"},
    },
    minimum={"robustness.examples": 20},
    sequential=("robustness",),
    stopping_reads={"robustness": ()},
    document={"robustness": RobustnessPart, "distances": DistanceRow},
)
