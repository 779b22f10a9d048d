"""The checks of a model that stand before every door: is it a fixed function of one image, and do gradients tell the
truth about it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.gradient_diagnostics import gradient_health
from audit.adversarial.red_flags import RedFlag, over_threshold, red_flags
from audit.core.evidence import Array
from audit.core.note import Note
from audit.core.seeding import Generators, fork_global_rng
from audit.core.types import Batch, Images
from audit.metrics.determinism import (
    batch_difference,
    changed_state,
    modules_in_training,
    needs_autograd,
    not_finite,
    repeat_difference,
    state_copy,
)
from audit.metrics.gradient_masking import (
    derivative_error,
    face_error,
    linear_distance,
    linearise,
    noise_response,
)
from audit.models.under_test import ModelUnderTest

FIXED_FUNCTION = ("not_finite", "repeat_difference", "batch_difference")
"""The quantities that say whether a model is a fixed function of one image."""


@dataclass(frozen=True)
class ModelChecks:
    """What the checks saw of a model on some images.

    Attributes:
        measured: One value an example, (N,), by name; 0 is good.
        facts: Of the model: output_kind, missing_gradient, needs_autograd, in_training, changed_state.
        flags: Reasons to doubt what is said of the model; empty where there are none.
    """

    measured: Mapping[str, Array]
    facts: Mapping[str, Any]
    flags: tuple[RedFlag, ...]


@dataclass(frozen=True)
class CheckEffort:
    """How often the model is asked, by check.

    Attributes:
        repeats: Forwards of the same images.
        directions: Random directions in which the gradient is compared with central differences.
        noises: Noises that are tried.
        faces: Random choices of black and white pixels.
    """

    repeats: int = 5
    directions: int = 8
    noises: int = 5
    faces: int = 4


THOROUGH, BRIEF = CheckEffort(), CheckEffort(repeats=2, directions=3, noises=2, faces=2)


def check_model(model: ModelUnderTest, batch: Batch, seed: int, effort: CheckEffort = THOROUGH) -> ModelChecks:
    """All checks of a model and its gradients (about 40 forwards per image; 20 in brief).

    Args:
        model: The model to look at.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        seed: Root of the random draws.
        effort: How often the model is asked.
    """
    before = state_copy(model)
    health = gradient_health(model, batch)
    measured = {
        "not_finite": _array(not_finite(model, batch.images)),
        "repeat_difference": _array(repeat_difference(model, batch.images, effort.repeats)),
        "batch_difference": _array(batch_difference(model, batch.images)),
        "ce_zero": _array(health.ce_zero),
        "ce_nan": _array(health.ce_nan),
        "margin_zero": _array(health.margin_zero),
        "margin_nan": _array(health.margin_nan),
    }
    local = linearise(model, batch, differentiable=not health.no_gradient_reason)
    draws = Generators.of(batch.ids, seed=seed, purpose="sanity", device=model.device)
    shift, plateau = noise_response(model, local, draws.fork(0), effort.noises)
    measured |= {
        "linear_distance": _array(linear_distance(local)),
        "derivative_error": _array(derivative_error(model, local, draws.fork(1), effort.directions)),
        "noise_shift": _array(shift),
        "plateau": _array(plateau),
        "face_error": _array(
            face_error(
                model,
                batch,
                draws.fork(2),
                differentiable=not health.no_gradient_reason,
                directions=effort.faces,
            )
        ),
    }
    facts = {
        "output_kind": model.output_kind,
        "missing_gradient": health.no_gradient_reason,
        "needs_autograd": needs_autograd(model, batch.images[:2]),
        "in_training": tuple(modules_in_training(model)),
        "changed_state": tuple(changed_state(model, before)),
    }
    return ModelChecks(measured, facts, red_flags(measured, facts))


def fixed_function_notes(model: ModelUnderTest, images: Images, seed: int = 0) -> tuple[Note, ...]:
    """Why the answers themselves are in doubt: not finite, random, or dependent on the other images of a batch.

    Args:
        model: The model to look at.
        images: Float32 (N, C, H, W) in [0, 1]; the first few are looked at, for eight forwards each.
        seed: Of the model's own random layers.
    """
    few = images[:_FEW]
    with fork_global_rng(model.device, seed, "model checks"):
        measured = {
            "not_finite": _array(not_finite(model, few)),
            "repeat_difference": _array(repeat_difference(model, few, repeats=3)),
            "batch_difference": _array(batch_difference(model, few)),
        }
    flags = {flag.name: flag.sentence for flag in over_threshold(measured, FIXED_FUNCTION)}
    if "repeat_difference" in flags:
        flags.pop("batch_difference", None)  # Two forwards differ anyway.
    return tuple(flags.values())


def doubts(model: ModelUnderTest, batch: Batch, seed: int, use: Use) -> tuple[Note, ...]:
    """Why numbers about the model are weak evidence, for the functions of the Python interface.

    What a model's outputs mean is said elsewhere. Of a model that draws random numbers no gradient is compared.

    Args:
        model: The model to look at.
        batch: N examples; the first few are looked at.
        seed: Root of the random draws.
        use: What is asked of the model.
    """
    few = batch.select(torch.arange(min(len(batch), _FEW), device=batch.labels.device))
    if use == "answers":
        return fixed_function_notes(model, few.images, seed)
    with fork_global_rng(model.device, seed, "model checks"):
        flags = {flag.name: flag.sentence for flag in check_model(model, few, seed, BRIEF).flags}
    beside_the_point = _SAID_ELSEWHERE[use]
    if "repeat_difference" in flags:
        beside_the_point |= _MEANINGLESS_IF_RANDOM | ({"repeat_difference"} if use == "attacks" else frozenset())
    return tuple(sentence for name, sentence in flags.items() if name not in beside_the_point)


Use: TypeAlias = Literal["answers", "gradients", "attacks"]
"""Answers alone; gradients that explain or train; attacks, which a battery examines besides."""
_SATURATION = frozenset({"output_kind", "missing_gradient", "ce_zero", "margin_zero"})
_SAID_ELSEWHERE: Mapping[Use, frozenset[str]] = {
    "answers": frozenset(),
    "gradients": _SATURATION | {"linear_distance", "noise_shift"},
    "attacks": _SATURATION | {"ce_nan", "margin_nan"},
}
_MEANINGLESS_IF_RANDOM = frozenset(
    {"batch_difference", "ce_nan", "margin_nan", "linear_distance"}
    | {"derivative_error", "face_error", "noise_shift", "plateau"}
)
_FEW = 8
"""Images that the functions of the Python interface look at."""


def _array(values: Tensor) -> Array:
    return values.cpu().double().numpy().astype(np.float64)
