"""Deletion and insertion: whether removing the pixels a map ranks first hurts more than removing random ones."""

from audit.core.topic import Topic
from audit.topics.faithfulness.section import FaithfulnessRow

TOPIC = Topic(
    name="faithfulness",
    section="explanations",
    order=410,
    folded=True,
    studies={"faithfulness": "explanations.examples", "faithfulness-baselines": "explanations.examples"},
    document={"faithfulness": FaithfulnessRow},
    former_names={"controls": "faithfulness-baselines"},
)
