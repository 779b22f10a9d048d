"""What the certification study measures besides the radii."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.evidence import Facts


class CertificationFacts(Facts):
    """What is certified.

    Attributes:
        norm: Norm of the radii.
        certifies: The classifier that is certified: the model itself, or a smoothed one.
        settings: Settings of the method.
        abstained: Images on which the method gives no class.
    """

    norm: str
    certifies: str
    settings: dict[str, Any] = Field(default_factory=dict)
    abstained: int = 0
