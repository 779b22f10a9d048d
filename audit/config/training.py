"""The tables of a configuration that say how models are trained, hardened and compressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from audit.config.flags import Flag
from audit.config.values import Compression, ConfigTable, Eps, Optimizer, Precision, Schedule, Seconds
from audit.core.errors import unknown_name
from audit.core.threat_format import Norm


class AugmentationConfig(ConfigTable):
    """Random views of the training images."""

    rotation: float = Field(0.0, ge=0, le=180, description="degrees, at most, either way")
    shift: float = Field(0.0, ge=0, lt=1, description="share of the height and of the width, at most")
    shear: float = Field(0.0, ge=0, lt=90, description="degrees, at most, as Keras reads its shear_range")
    zoom: float = Field(0.0, ge=0, lt=1, description="0.2 is between 0.8 and 1.2, each axis by itself")
    crop: int = Field(0, ge=0, description="pixels of padding of which a random window is cut")
    horizontal_flip: bool = Field(False, description="left and right change places, for half of the images")
    vertical_flip: bool = Field(False, description="top and bottom change places, for half of the images")
    fill: Literal["nearest", "reflect", "zero"] = Field("nearest", description="what lies outside the image")

    @property
    def active(self) -> bool:
        """Whether any view differs from the image."""
        return self != AugmentationConfig(fill=self.fill)


AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "keras": {"rotation": 40, "shift": 0.2, "shear": 0.2, "zoom": 0.2, "horizontal_flip": True},
    "crop-flip": {"crop": 4, "horizontal_flip": True, "fill": "zero"},
    "jitter": {"crop": 2},
}
"""Presets: `keras` is the setting of the Keras tutorial on small data, `crop-flip` the usual one for CIFAR-10."""


def _augmentation(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in AUGMENTATIONS:
        raise ValueError(str(unknown_name("augmentation", value, AUGMENTATIONS)))
    return AUGMENTATIONS[value]


class TrainingConfig(ConfigTable):
    """How a model is trained."""

    recipe: Annotated[str, Flag("--recipe")] = Field(
        "standard", description="the objective; `audit methods recipe` lists them"
    )
    recipe_settings: dict[str, Any] = Field(default_factory=dict, description="settings of the recipe")
    epochs: Annotated[int, Flag("--epochs")] = Field(
        3, ge=1, description="passes over the training images; by default 8 for other nets than cnn-28"
    )
    batch_size: Annotated[int, Flag("--batch-size")] = Field(64, ge=2, description="images a step")
    optimizer: Annotated[Optimizer, Flag("--optimizer")] = Field(
        "muon",
        description="muon, adam, adamw, sgd, rmsprop, adagrad; by default adam for other nets than cnn-28",
    )
    learning_rate: Annotated[float, Flag("--learning-rate")] = Field(
        6e-3, gt=0, description="at its peak; by default 0.002 for other nets than cnn-28"
    )
    schedule: Schedule = Field("one-cycle", description="of the learning rate: one-cycle, cosine, step, constant")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd and rmsprop")
    weight_decay: float = Field(0.0, ge=0, description="the optimiser's own; decoupled for muon and adamw")
    l1: float = Field(0.0, ge=0, description="factor of the sum of absolute weights in the loss")
    l2: float = Field(0.0, ge=0, description="factor of the sum of squared weights in the loss")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of inputs of the last layer dropped in training")
    clip_gradient: float | None = Field(None, gt=0, description="largest l2 norm of the weight gradient")
    weight_perturbation: float = Field(
        0.0, ge=0, lt=1, description="size, relative to each weight, of adversarial weight perturbation (AWP)"
    )
    averaging: float = Field(0.0, ge=0, lt=1, description="decay of the moving average of weights; 0 for none")
    early_stopping: int | None = Field(None, ge=1, description="stop after this many epochs without a better one")
    held_out: float = Field(0.1, gt=0, lt=1, description="share of the training images kept to choose the checkpoint")
    probe_examples: int = Field(300, ge=1, description="held-out images attacked after each epoch")
    probe_steps: int = Field(10, ge=1, description="steps of that attack")
    augmentation: Annotated[
        AugmentationConfig, BeforeValidator(_augmentation), Flag("--augmentation", default="none")
    ] = Field(AugmentationConfig(), description="none, keras, crop-flip, jitter, or a table of settings")
    frozen_epochs: Annotated[int, Flag("--frozen-epochs")] = Field(
        0, ge=0, description="first epochs in which only the last layer learns (transfer)"
    )
    backbone_rate: Annotated[float, Flag("--backbone-rate")] = Field(
        1.0, gt=0, description="factor on the learning rate of all but the last layer"
    )
    time_budget: Annotated[
        Seconds | None,
        Flag(
            "--time-budget", help="As 90s, 12m or 1.5h: fewer epochs when the first steps show that all will not fit."
        ),
    ] = Field(None, gt=0, description="seconds; fewer epochs when the first steps show that all will not fit")
    precision: Precision = Field(
        "auto",
        description="bfloat16: mixed precision, whose kept weights are float32; auto: so where a processor has "
        "AVX512-BF16 and the net gains by it",
    )
    compile: bool = Field(False, description="torch.compile the net while it is trained")
    shares: Annotated[int, Flag("--shares")] = Field(
        1,
        ge=1,
        description="parts of a batch, a power of two, that are learnt from one by one and summed in one order: what "
        "processes divide among them",
    )
    nproc: Annotated[int, Flag("--nproc")] = Field(
        1,
        ge=1,
        exclude=True,
        description="processes that divide the shares of a batch, each with a GPU where there are any; workers of the "
        "run where `jobs` or `engine` starts some. It changes no number",
    )
    tensorboard: Annotated[bool, Flag("--tensorboard")] = Field(
        False, description="event files beside the weights (needs the extra tensorboard)"
    )


class HardeningConfig(TrainingConfig):
    """Adversarial training of the model under test, from its weights or from scratch."""

    enabled: Annotated[bool, Flag("--harden/--no-harden")] = Field(
        True, description="train a hardened model and audit it too"
    )
    recipe: Annotated[str, Flag("--recipe")] = Field(
        "pgd",
        description="`audit methods recipe` lists them",
    )
    epochs: Annotated[int, Flag("--epochs")] = Field(
        3,
        ge=1,
        description="passes over the training images; by default up to 16 where they are few, 5 of fgsm-rs, and 6 for "
        "other nets than cnn-28 and other recipes",
    )
    batch_size: Annotated[int, Flag("--batch-size")] = Field(
        48, ge=2, description="images a step; by default 64 for other nets than cnn-28 and other recipes"
    )
    learning_rate: Annotated[float, Flag("--learning-rate")] = Field(
        1.2e-2,
        gt=0,
        description="at its peak; by default 0.008 of fgsm-rs, 0.004 for other nets of the zoo than cnn-28 and other "
        "recipes, and 0.001 for a net that is not of the zoo",
    )
    from_scratch: Annotated[bool, Flag("--from-scratch/--warm-start")] = Field(
        False, description="start from new weights instead of the audited model's"
    )
    norm: Norm | None = Field(None, description="as in [robustness] by default")
    eps: Eps | None = Field(None, description="as in [robustness] by default")

    @property
    def asked_for(self) -> bool:
        """Whether it is on because the configuration says so, and not by default."""
        return self.enabled and "enabled" in self.model_fields_set


class CompressionConfig(TrainingConfig):
    """A smaller model made from the model under test, and the training that follows (distill: that makes it)."""

    enabled: bool = Field(False, description="make a smaller model and audit it too")
    method: Annotated[Compression, Flag("--method")] = Field(
        "magnitude", description="magnitude, structured, clip, int8, distill"
    )
    amount: Annotated[float | None, Flag("--amount")] = Field(
        None,
        gt=0,
        description="magnitude: share of weights to prune (0.5 by default); structured: of channels (0.3); clip: the "
        "standard deviations to clip at (2.5)",
    )
    student: Annotated[str | None, Flag("--student")] = Field(
        None, description="the architecture distill trains: zoo, torchvision:NAME or timm:NAME; by default the parent's"
    )
    epochs: Annotated[int, Flag("--epochs")] = Field(
        3, ge=0, description="of fine-tuning after pruning or of distillation; 0 for no fine-tuning"
    )
    optimizer: Annotated[Optimizer, Flag("--optimizer")] = Field(
        "adam", description="muon, adam, adamw, sgd, rmsprop, adagrad"
    )
    learning_rate: Annotated[float, Flag("--learning-rate")] = Field(1e-3, gt=0, description="at its peak")
