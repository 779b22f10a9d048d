"""The first model against the second on the same images."""

from audit.core.topic import Topic
from audit.topics.comparison.section import ComparisonRow

TOPIC = Topic(name="comparison", section="comparison", order=600, priority=60, document={"comparison": ComparisonRow})
