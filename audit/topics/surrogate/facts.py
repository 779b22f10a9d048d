"""What the surrogate study is given, and what it measures besides the weights."""

from __future__ import annotations

from audit.core.cell import StudySettings
from audit.core.evidence import Facts


class SurrogateSettings(StudySettings):
    """Settings of a cell that teaches a surrogate.

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
        architecture: Name of its net.
        taught_on: Images it learned from.
        classes: Names of its classes, in the order of its outputs.
        input_shape: Channels, height and width of an image.
        mean: What is subtracted from the pixels before the net, one a channel.
        std: What they are divided by after that.
        agreement: Share of unseen images on which it predicts what the model does.
        elsewhere: Whether none of the examples it was taught on is to be attacked.
    """

    architecture: str
    taught_on: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    agreement: float
    elsewhere: bool
