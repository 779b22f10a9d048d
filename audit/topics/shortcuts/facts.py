"""What the search for shortcuts measures."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from audit.core.evidence import Facts


class ShortcutFacts(Facts):
    """A region that decides a class.

    Attributes:
        label: Name of the class.
        share: Share of the positive attribution of its images that lies in the region, in [0, 1].
        transplanted: Share of other images that join the class when the region is put into them.
        joined_anyway: The same under the control.
        removed: Share of its images that leave the class when the region is exchanged.
        left_anyway: The same under the control; None in evidence of earlier versions.
        images: Images of the class.
        box: Top, left, bottom and right of the region, in pixels.
    """

    label: str = Field(alias="class")
    share: float
    transplanted: float
    joined_anyway: float = Field(validation_alias=AliasChoices("joined_anyway", "control"))
    removed: float
    left_anyway: float | None = None
    images: int
    box: list[int]


class ShortcutsFacts(Facts):
    """The search over all classes.

    Attributes:
        shortcuts: The regions that were confirmed.
        tried: Number of candidate regions.
    """

    shortcuts: tuple[ShortcutFacts, ...] = ()
    tried: int = 0
