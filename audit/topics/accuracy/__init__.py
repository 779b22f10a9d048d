"""How often the model is right on images as they are, class by class, and whether its confidence can be believed."""

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
