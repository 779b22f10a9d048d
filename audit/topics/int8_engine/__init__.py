"""Whether the integer kernels of an int8 model answer as the differentiable model that is audited."""

from audit.core.topic import Topic

TOPIC = Topic(name="int8_engine", section="accuracy", order=110, studies={"int8-engine": "fewer evaluation images"})
