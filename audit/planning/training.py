"""The cells that make models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.config import HardeningConfig, TrainingConfig
from audit.plan import Slice
from audit.planning.draft import Draft, Model
from audit.planning.subject import headline_eps
from audit.registry import find

_NOT_TRAINING = {"enabled", "norm", "eps", "from_scratch"}


def plan_training(draft: Draft, role: str, training: TrainingConfig, start: Model | None = None) -> Model:
    """A model trained here, from new weights or from those of `start`."""
    recipe = find("recipe", training.recipe)
    hardening = training if isinstance(training, HardeningConfig) else None
    warm = start if hardening is None or not hardening.from_scratch else None
    task = draft.add(
        "training",
        recipe.name,
        Model(role, warm.identity if warm and not warm.task else ""),
        Slice("train", 0, draft.subject.train_examples),
        settings={
            "architecture": draft.subject.architecture,
            "classes": list(draft.subject.classes),
            "input_shape": list(draft.subject.shape),
            "mean": draft.config.model.mean,
            "std": draft.config.model.std,
            "training": training.model_dump(mode="json", exclude=_NOT_TRAINING)
            | {"recipe_settings": recipe.settings(training.recipe_settings)},
        },
        version=recipe.full_version,
        threat=_threat(draft, hardening) if recipe.facts["adversarial"] else None,
        inputs={"start": warm.task} if warm and warm.task else {},
    )
    return Model(role, f"cell:{task.cell.key}", task)


def _threat(draft: Draft, hardening: HardeningConfig | None) -> Mapping[str, Any]:
    norm = (hardening and hardening.norm) or draft.config.robustness.norm
    eps = (hardening and hardening.eps) or headline_eps(draft.config, draft.subject)
    return {"norm": norm, "eps": eps}
