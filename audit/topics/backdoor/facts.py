"""What the search for a planted trigger measures."""

from __future__ import annotations

from pydantic import Field

from audit.core.cell import StudySettings
from audit.core.evidence import Facts

PART_OF_CLASSES = "backdoor-part"
"""The study whose cells search some of the classes each, where a cell of the search joins several."""


class SearchedClasses(StudySettings):
    """The classes that a part searches, beside the settings of the metric.

    Attributes:
        classes: Position of the first in the model's order, and that after the last.
    """

    classes: tuple[int, int]


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
