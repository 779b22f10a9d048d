"""What the localisation study measures besides its values."""

from __future__ import annotations

from audit.core.evidence import Facts


class LocalisationFacts(Facts):
    """What the maps were compared with.

    Attributes:
        masked: Images with a mask.
    """

    masked: int
