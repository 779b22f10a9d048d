"""Whether onnxruntime, on the file that ships, answers as the differentiable form that gradients are taken of."""

from audit.core.topic import Topic

TOPIC = Topic(name="int8_engine", section="accuracy", order=110, studies={"int8-engine": "fewer evaluation images"})
