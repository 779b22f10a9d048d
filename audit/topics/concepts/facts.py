"""What the study of concepts measures besides its arrays."""

from __future__ import annotations

from audit.core.evidence import Facts


class ConceptClassFacts(Facts):
    """A class whose concepts were looked for.

    Attributes:
        index: Its index.
        label: Its name.
        images: Its images.
        concepts: Concepts found.
    """

    index: int
    label: str
    images: int
    concepts: int


class UserConceptFacts(Facts):
    """A concept of the user's on one class.

    Attributes:
        name: Its name.
        label: Name of the class.
        images: Images of the concept.
        score: Its TCAV score, in [0, 1], the mean over random sets.
        random_score: The mean of random sets.
        p: The p-value that it is a random concept, not corrected.
    """

    name: str
    label: str
    images: int
    score: float
    random_score: float
    p: float


class ConceptsFacts(Facts):
    """Concepts of a model.

    Attributes:
        layer: Name of the layer.
        replays: Whether the net after the layer was run by itself.
        classes: The classes, in the order of the arrays.
        user: Concepts of the user's, by name and class.
    """

    layer: str
    replays: bool
    classes: tuple[ConceptClassFacts, ...] = ()
    user: tuple[UserConceptFacts, ...] = ()
