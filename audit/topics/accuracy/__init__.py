"""Clean accuracy: how often the model is right on unchanged images, class by class, and how well it is calibrated."""

from audit.core.topic import Topic
from audit.topics.accuracy.section import AccuracyPart

TOPIC = Topic(
    name="accuracy",
    section="accuracy",
    order=100,
    priority=20,
    studies={"accuracy": "fewer evaluation images"},
    document={"accuracy": AccuracyPart},
)
