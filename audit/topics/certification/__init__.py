"""Certificates: radii within which the prediction provably stays, a lower bound on robust accuracy."""

from typing import Literal

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.certification.section import Bracket, CertificatePart


class CertificationConfig(ConfigTable):
    """Certificates by bounds of the model itself, and by randomised smoothing."""

    examples: int = Field(0, ge=0, description="certify this many images: a lower bound beside the attacks'")
    effort: Literal["bounds", "optimised", "complete"] = Field(
        "bounds",
        description="bounds: intervals and linear relaxation; optimised: bounded layer by layer, slopes optimised too; "
        "complete: branch and bound too",
    )
    problems: int = Field(
        500,
        ge=1,
        description="sub-problems of branch and bound an image and an eps, at most; more ask only what is open yet",
    )


TOPIC = Topic(
    name="certification",
    section="robustness",
    order=230,
    studies={"certification": "certification.examples"},
    config=CertificationConfig,
    presets={"standard": {"examples": 100}, "full": {"examples": 1000, "effort": "complete"}},
    minimum={"certification.examples": 10},
    first_images={"robustness": "certification.examples"},
    document={"certificates": CertificatePart, "brackets": Bracket},
    former_keys={"robustness.certified_examples": "certification.examples"},
)
