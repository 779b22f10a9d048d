"""`audit.evaluate_attributions`: maps made by anything, judged as an audit judges its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from audit.api.inputs import as_image_tensor, as_values, given_image_notes
from audit.core.errors import DataError
from audit.core.evidence import Array, Verdict
from audit.core.seeding import Generators, content_ids
from audit.core.statistics import Interval
from audit.core.types import Attributions, Batch, Images, PassCount
from audit.explanation.spec import TargetClasses, resolve_targets
from audit.masking.baselines import fill_images
from audit.metrics.deletion_insertion import RemovalMode, deletion_area, removal_curves
from audit.metrics.infidelity import infidelity
from audit.metrics.localisation import pointing_game, relevance_mass, relevance_rank
from audit.metrics.model_checks import fixed_function_notes
from audit.metrics.pixel_ranking import blurred_copy, edge_map, order_of
from audit.metrics.road import road
from audit.metrics.sparseness import sparseness
from audit.models.ambient_torch import in_plain_torch
from audit.models.under_test import ModelUnderTest
from audit.results.check_result import above_zero, cap_at_warning
from audit.topics.attribution_quality.check import BLIND, blind_advantage
from audit.topics.attribution_quality.facts import AttributionQualitySettings
from audit.topics.faithfulness.check import deletion_advantage
from audit.topics.faithfulness.curves import control_orders, generators
from audit.topics.faithfulness.facts import FaithfulnessSettings

_FILL = "mean"
"""What pixels become in deletion, the first fill of an audit."""


@dataclass(frozen=True)
class EvaluatedAttributions:
    """How well N maps tell what the model used, beside maps that know nothing of it.

    Attributes:
        targets: The class that each map explains, int64 (N,).
        scores: By name, one value an image, float64 (N,): `deletion_area` and `road_area` (lower is better),
            `insertion_area` (higher), `infidelity` (lower), `sparseness`; the same names with `_random`, `_centre`,
            `_edges` and `_blurred` are those of controls; with masks `relevance_mass`, `relevance_rank` and
            `pointing_game` (higher). NaN where a map has no value, such as one that is all zero.
        advantages: By name, the mean advantage with its 95% interval: `deletion` over a random order, `road` over the
            better of noise and an edge detector.
        verdicts: By the same names, "pass" where the whole interval is above 0, "warn" where it is not above 0 at all,
            else, and below ten images, "inconclusive".
        passes: The cost, in images.
        notes: Why the model's answers are in doubt, and what was done to the images; empty otherwise.
    """

    targets: Tensor
    scores: Mapping[str, Tensor]
    advantages: Mapping[str, Interval]
    verdicts: Mapping[str, Verdict]
    passes: PassCount
    notes: tuple[str, ...] = ()


@in_plain_torch
def evaluate_attributions(
    model: ModelUnderTest,
    images: Any,
    maps: Any,
    *,
    targets: TargetClasses = None,
    masks: Any = None,
    seed: int = 0,
) -> EvaluatedAttributions:
    """Judge maps that captum, shap or anything else made, by the measures and rules of an audit.

    Args:
        model: The model that was explained, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        maps: One map an image, numbers (N, C, H, W), (N, 1, H, W) or (N, H, W); high where a pixel speaks for the
            class.
        targets: The class that was explained: one an image, one for all, or None for the predicted class.
        masks: Where the object is, true or false (N, H, W); None where that is not known.
        seed: Of the random orders and noises.

    Raises:
        DataError: Images, maps or masks are of the wrong type, shape or range.
        UsageError: A target is no class of the model.
    """
    pixels = as_image_tensor(model, images)
    attributions = _maps(maps, pixels)
    places = None if masks is None else _masks(masks, pixels)
    settings = FaithfulnessSettings(fills=(_FILL,))
    with model.count() as counter:
        doubtful = fixed_function_notes(model, pixels, seed)
        classes = resolve_targets(model, pixels, targets)
        batch = Batch(pixels, classes, content_ids(pixels))
        scores = {
            "sparseness": sparseness(attributions),
            **_removed(model, batch, attributions, settings, seed),
            **_against_controls(model, batch, attributions, seed),
        }
    if places is not None:
        scores |= {
            "relevance_mass": relevance_mass(attributions, places),
            "relevance_rank": relevance_rank(attributions, places),
            "pointing_game": pointing_game(attributions, places),
        }
    values = {name: score.cpu().double() for name, score in scores.items()}
    arrays = {name: score.numpy() for name, score in values.items()}
    advantages = _advantages(arrays)
    return EvaluatedAttributions(
        targets=classes,
        scores=values,
        advantages=advantages,
        verdicts={name: cap_at_warning(ahead, above_zero(ahead)) for name, ahead in advantages.items()},
        passes=counter.passes,
        notes=tuple(map(str, (*given_image_notes(images), *model.notes, *doubtful))),
    )


def _advantages(scores: Mapping[str, Array]) -> dict[str, Interval]:
    return {
        "deletion": deletion_advantage(scores["deletion_area"], scores["deletion_area_random"]),
        "road": blind_advantage(scores["road_area"], [scores[f"road_area_{name}"] for name in BLIND]),
    }


def _removed(
    model: ModelUnderTest, batch: Batch, maps: Attributions, settings: FaithfulnessSettings, seed: int
) -> dict[str, Tensor]:
    """Deletion and insertion areas of the maps and of the controls; those that are drawn several times are averaged."""
    ties = generators(batch, seed, "ties")
    orders = {"": order_of(maps, ties), "_blurred": order_of(blurred_copy(maps), ties)}
    for name, order in control_orders(batch, seed, settings.random_orders).items():
        orders[f"_{name}"] = order
    modes: tuple[RemovalMode, ...] = ("deletion", "insertion")
    areas: dict[str, list[Tensor]] = {}
    for mode in modes:
        curves = removal_curves(
            model,
            batch.images,
            orders,
            targets=batch.labels,
            fill=fill_images(batch.images, _FILL),
            mode=mode,
            steps=settings.steps,
            output=settings.output,
        )
        for name, curve in curves.items():
            areas.setdefault(f"{mode}_area{name.split('#')[0]}", []).append(deletion_area(curve))
    return {name: torch.stack(repeats).mean(0) for name, repeats in areas.items()}


def _against_controls(model: ModelUnderTest, batch: Batch, maps: Attributions, seed: int) -> dict[str, Tensor]:
    draws = partial(_draws, batch, seed)
    controls = {
        "": maps,
        "_random": draws("control").uniform(1, *maps.shape[2:]),
        "_edges": edge_map(batch.images),
        "_blurred": blurred_copy(maps),
    }
    samples = AttributionQualitySettings().infidelity_samples
    scores: dict[str, Tensor] = {}
    for name, control in controls.items():
        order = order_of(control, draws("ties"))
        road_curve = road(model, batch.images, order, targets=batch.labels, generators=draws("road"))
        scores[f"road_area{name}"] = road_curve.mean(1)
        scores[f"infidelity{name}"] = infidelity(
            model,
            batch.images,
            control,
            targets=batch.labels,
            generators=draws("infidelity"),
            samples=samples,
        )
    return scores


def _draws(batch: Batch, seed: int, purpose: str) -> Generators:
    return Generators.of(batch.ids, seed=seed, purpose=f"judging/{purpose}", device=batch.images.device)


def _maps(maps: Any, images: Images) -> Attributions:
    given = as_values(maps, "maps").to(images.device)
    count, channels, height, width = images.shape
    tensor = given[:, None] if given.ndim == 3 else given
    if tuple(tensor.shape) not in ((count, channels, height, width), (count, 1, height, width)):
        shapes = dict.fromkeys(f"({count}, {depth}{height}, {width})" for depth in (f"{channels}, ", "1, ", ""))
        raise DataError(
            f"Maps have shape {tuple(given.shape)}, where {' or '.join(shapes)} was expected: one map an "
            "image, of the class that was explained."
        )
    tensor = tensor.to(torch.float32)
    if not bool(tensor.isfinite().all()):
        raise DataError("Maps hold values that are not finite (NaN or infinity): find where they come from.")
    return tensor


def _masks(masks: Any, images: Images) -> Tensor:
    tensor = as_values(masks, "masks").to(images.device)
    expected = (len(images), *images.shape[2:])
    if tuple(tensor.shape) != expected:
        raise DataError(f"Masks have shape {tuple(tensor.shape)}, where {expected} was expected: one an image.")
    return tensor.bool()
