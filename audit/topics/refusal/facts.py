"""How the cells of refusal are called, and what they hold."""

from __future__ import annotations

from audit.core.cell import StudySettings
from audit.core.evidence import Facts

REFERENCE, CLEAN, CORRUPTED, FOREIGN, ATTACKED = "reference", "clean", "corrupted", "foreign", "attacked"
"""The methods of the study, by the images that the model is asked of."""
SHIFT_SEVERITIES = (1, 3, 5)
"""The severities at which images are corrupted."""
FEATURE_SCORES = ("mahalanobis", "kNN")
"""The scores that are made of features, each an array; those of logits are made where they are read."""


class RefusalSettings(StudySettings):
    """Settings of a cell.

    Attributes:
        corruption: Name of the corruption; empty for none.
        kind: Kind of foreign images; empty for none.
        count: Number of foreign images.
        source: Fingerprint of the user's foreign images; empty for those that are drawn.
    """

    corruption: str = ""
    kind: str = ""
    count: int = 0
    source: str = ""


class RefusalFacts(Facts):
    """What was fitted.

    Attributes:
        layer: The layer whose inputs are the features; empty where they are the logits, or where it has no name.
        images: Number of images.
    """

    layer: str = ""
    images: int = 0
