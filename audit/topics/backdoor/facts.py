"""What the search for a planted trigger measures."""

from __future__ import annotations

from pydantic import Field

from audit.core.evidence import Facts


class TriggerFacts(Facts):
    """The smallest patch into one class.

    Attributes:
        label: Name of the class.
        area: The patch as a share of the image, in [0, 1].
        anomaly: Its anomaly index among all classes.
        moved: Unseen images of other classes that it sends to the class.
        tried: Unseen images of other classes.
        reached: Whether the search reached the class.
    """

    label: str = Field(alias="class")
    area: float
    anomaly: float
    moved: int
    tried: int
    reached: bool


class BackdoorFacts(Facts):
    """The search over all classes.

    Attributes:
        triggers: The smallest patch into each class, in the model's order.
        made_on: Images that the patches were made on; the others score them.
    """

    triggers: tuple[TriggerFacts, ...]
    made_on: int
