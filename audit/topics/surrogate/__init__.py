"""A second model trained to answer as the audited one, from which attacks are transferred."""

from audit.core.topic import Topic

TOPIC = Topic(
    name="surrogate",
    section="robustness",
    order=210,
    studies={"surrogate": "other_threats.examples, robustness.battery"},
)
