"""Settings of the cells that make models and of those that explain images."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from audit.core.cell import StudySettings


class ModelSettings(StudySettings):
    """Settings of a cell that makes a model: a training or a compression.

    Attributes:
        architecture: Name of its architecture.
        classes: Names of its classes, in the order of its outputs.
        input_shape: Channels, height and width of an image.
        mean: Subtracted from the pixels before the net, one or one per channel; None to measure it.
        std: The pixels are divided by it after that; None to measure it.
        training: The fields of a `TrainingConfig`; None where the model is not trained.
        pretrained: SHA-256 of the file of weights it starts from, with the entry asked for; empty for new weights.
        amount: The parameter of a compression: the share of weights to prune, or the standard deviations to clip at;
            None where the method has none.
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
    """Settings of a cell that explains images, or measures explanations.

    Attributes:
        method: Settings of the attribution method.
        output: The output that is explained: "logit", "probability" or "log-probability".
        baseline: A number, "mean", "blur" or "segment-mean"; None for the method's default.
        references: Number of clean images that a method averages over as its background; 0 for the baseline alone.
        on: The images that are explained.
    """

    method: dict[str, Any] = Field(default_factory=dict)
    output: str = "logit"
    baseline: float | str | None = None
    references: int = 0
    on: Literal["clean", "adversarial"] = "clean"
