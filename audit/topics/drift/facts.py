"""What the drift study measures besides the agreement of maps."""

from __future__ import annotations

from audit.core.evidence import Facts

BETWEEN = "between-models"
"""The kind of drift that compares the maps of two models."""


class DriftFacts(Facts):
    """How the images were moved, or which models were compared.

    Attributes:
        kind: Why the maps might move: constant-label, manipulation or between-models.
        threat: The ball within which images were moved, in words.
        moved: Images that were moved.
        same_prediction: Images on which both models predict one class.
        examples: Images on which two models were compared.
    """

    kind: str = ""
    threat: str = ""
    moved: int = 0
    same_prediction: int = 0
    examples: int = 0
