"""Certificates: radii within which the prediction provably stays, a lower bound on robust accuracy."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.certification.section import CertificatePart


class CertificationConfig(ConfigTable):
    """Certificates by interval bounds and randomised smoothing."""

    examples: int = Field(0, ge=0, description="certify this many images: a lower bound beside the attacks'")


TOPIC = Topic(
    name="certification",
    section="robustness",
    order=230,
    studies={"certification": "certification.examples"},
    config=CertificationConfig,
    presets={"standard": {"examples": 100}, "full": {"examples": 1000}},
    minimum={"certification.examples": 10},
    document={"certificates": CertificatePart},
    former_keys={"robustness.certified_examples": "certification.examples"},
)
