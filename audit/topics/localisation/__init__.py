"""Localisation: how much of a map lies on the object, where the data has masks."""

from audit.core.topic import Topic

TOPIC = Topic(
    name="localisation",
    section="explanations",
    order=420,
    folded=True,
    studies={"localisation": "explanations.examples"},
    measures=True,
)
