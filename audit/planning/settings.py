"""What a plan tells the cells that make models and those that explain images."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from audit.core.cell import StudySettings


class ModelSettings(StudySettings):
    """Settings of a cell that makes a model: a training or a compression.

    Attributes:
        architecture: Name of its net.
        classes: Names of its classes, in the order of its outputs.
        input_shape: Channels, height and width of an image.
        mean: What is subtracted from the pixels before the net, one or a channel; None to measure it.
        std: What they are divided by after that; None to measure it.
        training: How it is trained, as a `TrainingConfig` holds it; None where it is not.
        pretrained: SHA-256 of the file of weights it starts from, empty for new weights.
        amount: The one number of a compression: the share to prune or the standard deviations to clip at; None where
            the method has none.
        student: The architecture that distillation trains; None for the run's own.
    """

    architecture: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    training: dict[str, Any] | None = None
    pretrained: str = ""
    amount: int | float | None = None
    student: str | None = None


class ExplanationSettings(StudySettings):
    """Settings of a cell that explains images, or looks at explanations.

    Attributes:
        method: The attribution method's own settings.
        output: What is explained: logit, probability or log-probability.
        baseline: A number, mean, blur or segment-mean; None for the method's own.
        references: Clean images that a method averages over as its background; 0 for the baseline alone.
        on: Which images are explained.
    """

    method: dict[str, Any] = Field(default_factory=dict)
    output: str = "logit"
    baseline: float | str | None = None
    references: int = 0
    on: Literal["clean", "adversarial"] = "clean"
