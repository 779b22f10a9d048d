"""Planning the cells that make models: training and compression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.config import CompressionConfig, HardeningConfig, TrainingConfig
from audit.core.errors import UsageError
from audit.core.registry import Method, find
from audit.core.threat_format import CONVEX_NORMS, usual_eps
from audit.models.compression.compress import amount_of, revision_of
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import CALIBRATION_SPLIT, Slice, Task
from audit.planning.run_identity import headline_eps
from audit.planning.settings import ModelSettings
from audit.training.distributed import processes_of, require_shareable, why_one_process

_NOT_TRAINING = {"enabled", "norm", "eps", "from_scratch", "method", "amount", "student", "tensorboard"}
"""Keys of a training section that are no setting of the training: the cell holds them elsewhere, or not at all."""


def plan_training(builder: PlanBuilder, role: str, training: TrainingConfig, start: ModelRef | None = None) -> ModelRef:
    """Plan the training of a model.

    It starts from new weights, from the pretrained ones of the configuration or from those of another model; a recipe
    with a teacher starts anew and learns from that model.

    Args:
        builder: The plan so far.
        role: Role of the trained model.
        training: The training, or the hardening, of the configuration.
        start: The model to start from or to learn from; None for none.

    Returns:
        The trained model.

    Raises:
        UsageError: The recipe needs a teacher and `start` is None, or a setting of the recipe is invalid.
    """
    recipe = find("recipe", training.recipe)
    processes = processes_of(training)
    require_shareable(training, processes, alone=why_one_process(recipe.facts))
    hardening = training if isinstance(training, HardeningConfig) else None
    if recipe.facts.get("teacher"):
        return _plan_distillation(builder, role, training, recipe, start)
    warm = start if hardening is None or not hardening.from_scratch else None
    pretrained = builder.identity.pretrained if warm is None else ""
    settings = _settings(builder, training, recipe).model_copy(update={"pretrained": pretrained} if pretrained else {})
    task = builder.add(
        "training",
        recipe.name,
        ModelRef(role, warm.identity if warm and not warm.task else ""),
        _images(builder),
        settings=settings.dump(),
        version=recipe.full_version,
        threat=_threat(builder, hardening) if recipe.facts["adversarial"] else None,
        inputs={"start": warm.task} if warm and warm.task else {},
        context=({"pretrained": builder.config.model.pretrained} if pretrained else {})
        | ({"nproc": processes} if processes > 1 else {}),
    )
    return _model_ref(role, task)


def plan_compression(builder: PlanBuilder, parent: ModelRef) -> ModelRef:
    """Plan a smaller model: fine-tuned after pruning, trained by its parent in distillation.

    Args:
        builder: The plan so far.
        parent: The model to compress.

    Returns:
        The smaller model.

    Raises:
        UsageError: The method has no use for the amount, the student or the number of epochs.
    """
    config = builder.config.compression
    _check_compression(config)
    trained = config.method in TRAINED and config.epochs > 0
    recipe = find("recipe", "distill" if config.method == "distill" else config.recipe)
    training = config.model_copy(update={"recipe": recipe.name})
    changes: dict[str, Any] = {
        "architecture": config.student or builder.identity.architecture,
        "amount": amount_of(config.method, config.amount),
        "student": config.student,
    }
    settings = _settings(builder, training, recipe).model_copy(
        update=changes if trained else changes | {"training": None}
    )
    task = builder.add(
        "compression",
        config.method,
        ModelRef("compressed", parent.identity, parent.task),
        _images(builder) if trained else _calibration(builder, config.method),
        settings=settings.dump(),
        version=(recipe.full_version if trained else "1") + revision_of(config.method),
        threat=_threat(builder, None) if trained and recipe.facts["adversarial"] else None,
    )
    return _model_ref("compressed", task)


CALIBRATED = 256
"""Training images on which the input ranges of int8 are measured."""


def _calibration(builder: PlanBuilder, method: str) -> Slice:
    return Slice(CALIBRATION_SPLIT, 0, min(CALIBRATED, builder.identity.train_examples) if method == "int8" else 0)


TRAINED = ("magnitude", "structured", "distill")
"""The compressions that are followed by training, or consist of training."""


def _plan_distillation(
    builder: PlanBuilder, role: str, training: TrainingConfig, recipe: Method, teacher: ModelRef | None
) -> ModelRef:
    if teacher is None:
        raise UsageError(
            f"Recipe {recipe.name!r} learns from another model, and none is there: use audit compress --method distill "
            "--model TEACHER, or the recipe under [hardening]."
        )
    model = ModelRef(role, teacher.identity, teacher.task)
    settings = _settings(builder, training, recipe).dump()
    task = builder.add("training", recipe.name, model, _images(builder), settings=settings, version=recipe.full_version)
    return _model_ref(role, task)


def _check_compression(config: CompressionConfig) -> None:
    amount_of(config.method, config.amount)
    if config.nproc > 1:
        raise UsageError("A compression trains in one process: leave compression.nproc out.")
    if config.method == "distill" and config.epochs == 0:
        raise UsageError("Distillation is training: give --epochs of at least 1.")
    if config.student and config.method != "distill":
        raise UsageError(
            f"Only distill trains another architecture; leave --student out, or give --method distill, "
            f"not {config.method}."
        )


def _model_ref(role: str, task: Task) -> ModelRef:
    return ModelRef(role, f"cell:{task.cell.key}", task)


def _images(builder: PlanBuilder) -> Slice:
    return Slice("train", 0, builder.identity.train_examples)


def _settings(builder: PlanBuilder, training: TrainingConfig, recipe: Method) -> ModelSettings:
    return ModelSettings(
        architecture=builder.identity.architecture,
        classes=builder.identity.classes,
        input_shape=builder.identity.shape,
        mean=builder.config.model.mean,
        std=builder.config.model.std,
        training=training.model_dump(mode="json", exclude=_NOT_TRAINING)
        | {"recipe_settings": recipe.settings(training.recipe_settings)},
    )


def _threat(builder: PlanBuilder, hardening: HardeningConfig | None) -> Mapping[str, Any]:
    norm = (hardening and hardening.norm) or builder.config.robustness.norm
    if norm not in CONVEX_NORMS:
        raise UsageError(
            f"No model is trained against {norm}: give --no-harden, or a norm to train against, as in "
            "--set hardening.norm=linf."
        )
    if hardening and hardening.eps:
        eps = hardening.eps
    elif norm == builder.config.robustness.norm:
        eps = headline_eps(builder.config, builder.identity)
    else:
        eps = usual_eps(norm, builder.identity.shape)
    return {"norm": norm, "eps": eps}
