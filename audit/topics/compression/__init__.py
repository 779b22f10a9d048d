"""A smaller model made in the run, beside its parent."""

from audit.core.topic import Topic
from audit.topics.compression.section import CompressionPart

TOPIC = Topic(
    name="compression",
    section="compression",
    order=510,
    studies={"compression": "compression.epochs"},
    document={"compression": CompressionPart},
)
