"""Settings of the surrogate study, and what it measures besides the weights."""

from __future__ import annotations

from audit.core.cell import StudySettings
from audit.core.evidence import Facts


class SurrogateSettings(StudySettings):
    """Settings of a cell that trains a surrogate.

    Attributes:
        every: It learns from one in so many of the examples.
        epochs: Passes over them.
        elsewhere: Whether none of the examples is to be attacked.
    """

    every: int
    epochs: int
    elsewhere: bool


class SurrogateFacts(Facts):
    """A surrogate.

    Attributes:
        architecture: Name of its architecture.
        taught_on: Images it learned from.
        classes: Names of its classes, in the order of its outputs.
        input_shape: Channels, height and width of an image.
        mean: Subtracted from the pixels before the net, one per channel.
        std: The pixels are divided by it after that, one per channel.
        agreement: Share of unseen images on which it predicts the same class as the model.
        elsewhere: Whether none of the examples it learned from is to be attacked.
    """

    architecture: str
    taught_on: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    agreement: float
    elsewhere: bool
