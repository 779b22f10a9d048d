"""Attributions of clean and adversarial images by each method."""

from audit.core.topic import Topic
from audit.topics.explanations.consensus import ConsensusRow
from audit.topics.explanations.section import ExplanationPart

TOPIC = Topic(
    name="explanations",
    section="explanations",
    order=400,
    folded=True,
    priority=50,
    studies={
        "explanation": "explanations.examples, explanations.precision, explanations.settings.METHOD.samples",
        "explanation-part": "explanations.examples, explanations.precision, chunk",
    },
    presets={
        "standard": {"examples": 64, "precision": 0.15},
        "full": {"examples": 200, "methods": ("all",), "precision": 0.0},
    },
    minimum={"explanations.examples": 4},
    first_images={"robustness": "explanations.examples"},
    document={"explanations": ExplanationPart, "consensus": ConsensusRow},
)
