"""Concepts as evidence: what each class goes by, how much, where, and against which controls."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.note import note
from audit.core.precise import precise
from audit.core.registry import study
from audit.core.seeding import derive_seed
from audit.core.types import Batch, Images
from audit.data.concept_images import concept_images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps
from audit.explanation.concept_factorisation import crops_of
from audit.explanation.layer_tail import LayerTail
from audit.explanation.target_layer import rectified_layer
from audit.metrics.class_concepts import (
    ClassConcepts,
    ConceptEffort,
    ConceptLayer,
    class_concepts,
    class_positions,
    concept_scores,
)
from audit.metrics.concept_activation import draw_p
from audit.topics.concepts.facts import ConceptClassFacts, ConceptsFacts, UserConceptFacts
from audit.topics.concepts.plan import FOLDERS, LEAST_IMAGES

CROPS_SHOWN = 3
"""Images that show a concept."""
_SIDE = 56
"""Longest side of a shown image, in pixels."""
_PER_EXAMPLE = ("sensitivity", "deletion", "deletion_control", "insertion", "insertion_control")
_PER_CLASS = ("tcav", "tcav_random", "along", "along_random")
_MOST_OF_A_CONCEPT = 100
"""Images of a user's concept that are looked at."""


@study()
def concepts(context: Context, cell: Cell) -> Evidence:
    """Concepts of each class, by non-negative factors of the activations of crops of its images.

    Measurement `explained`: the share of an image's squared activations that the concepts of its class account for.
    Arrays, r concepts a class, NaN or 0 where a class has fewer and for images of other classes: `directions` (classes,
    r, K); `maps` float16 (N, r, h, w), how much of each concept a position holds; float64 (N, r) `sensitivity`,
    `deletion`, `deletion_control`, `insertion`, `insertion_control`, and `inside`, the share of a concept's map inside
    the image's mask, where the data has masks, with `area` (N,), that of the mask; `tcav` and `along` (classes, r),
    `tcav_random` (classes, 1) and `along_random` (classes, sets), see `ClassConcepts`; `class_of` int64 (N,), the class
    of an image, -1 where it is none of them; `shown` uint8 (classes, r, 3, C, h', w'), the images that hold most of a
    concept, `shown_maps` uint8 (classes, r, 3, h', w'). Facts: see `ConceptsFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    model, batch = context.model(), context.batch().to(context.model().device)
    settings = cell.settings
    groups = class_positions(batch.labels, LEAST_IMAGES, settings["classes"])
    folders: dict[str, str] = context.task.context.get(FOLDERS, {})
    with model.count() as counter:
        try:
            chosen = rectified_layer(model)
            _require_groups(groups)
        except NotApplicable as fault:
            return Evidence(cell, "not_applicable", reason=fault.reason, forwards=counter.forwards)
        layer = ConceptLayer(LayerTail(model, chosen.name), chosen.order)
        steps = ResumableSteps(context, model, 1 + len(groups) + bool(folders), "looking for concepts")
        crops, places = crops_of(batch.images, settings["crop"], settings["crops"])
        pooled = steps.run("crops", lambda: {"pooled": layer.pooled(crops)})["pooled"].to(model.device)
        parts = [
            steps.run(str(label), partial(_of_class, layer, batch, label, rows, pooled, places, cell))
            for label, rows in groups.items()
        ]
        user = steps.run("user", lambda: _user_scores(layer, batch, groups, folders, cell)) if folders else {}
    facts = ConceptsFacts(
        layer=chosen.name,
        replays=layer.tail.replays,
        classes=tuple(
            ConceptClassFacts(index=label, label=model.classes[label], images=len(rows), concepts=int(part["count"]))
            for (label, rows), part in zip(groups.items(), parts, strict=True)
        ),
        user=_user_facts(user, [model.classes[label] for label in groups]),
    )
    arrays = _joined(parts, list(groups.values()), batch)
    explained = arrays.pop("explained")
    arrays["class_of"] = np.where(np.isin(batch.labels.cpu().numpy(), list(groups)), batch.labels.cpu().numpy(), -1)
    return measured_evidence(
        cell,
        (Measurement("explained", "share", "higher", explained),),
        arrays=arrays,
        facts=facts,
        passes=counter.passes,
    )


def _require_groups(groups: dict[int, Tensor]) -> None:
    if not groups:
        raise NotApplicable(
            note(
                "few_of_each_class",
                "No class has {least} of the images, the fewest in which concepts are looked for.",
                least=LEAST_IMAGES,
            )
        )


def _of_class(
    layer: ConceptLayer, batch: Batch, label: int, rows: Tensor, pooled: Tensor, places: Array, cell: Cell
) -> dict[str, Tensor]:
    settings, images = cell.settings, batch.images[rows]
    of_class = np.isin(places[:, 0], rows.cpu().numpy())
    generator = np.random.default_rng(derive_seed("concepts", cell.seed, label))
    effort = ConceptEffort(settings["count"], settings["points"], settings["random"])
    crops = pooled[torch.from_numpy(of_class).to(pooled.device)]
    found = class_concepts(layer, images, label, crops, pooled, effort, generator)
    shown, shown_maps = _shown(found, images, places[of_class, 0], rows.cpu().numpy())
    values = {name: torch.from_numpy(getattr(found, name)) for name in (*_PER_EXAMPLE, *_PER_CLASS, "explained")}
    held = torch.from_numpy(found.maps).float()
    if batch.masks is not None:
        masks = batch.masks[rows].cpu()
        maps = functional.interpolate(held, masks.shape[1:], mode="bilinear").double()
        mass = maps.flatten(2).sum(2)
        inside = (maps * masks[:, None]).flatten(2).sum(2) / mass.clamp(min=1e-300)
        unmarked = ~masks.flatten(1).any(1)
        values["inside"] = inside.masked_fill((mass <= 0) | unmarked[:, None], torch.nan)
    return values | {
        "count": torch.tensor(len(found.directions)),
        "directions": torch.from_numpy(found.directions).float(),
        "maps": held.half(),
        "shown": shown,
        "shown_maps": shown_maps,
    }


def _shown(found: ClassConcepts, images: Images, crop_images: Array, rows: Array) -> tuple[Tensor, Tensor]:
    """The images with the crops that hold most of each concept, and its map over each, (r, 3, ...) uint8."""
    scale = min(1.0, _SIDE / max(images.shape[2:]))
    size = [max(1, round(side * scale)) for side in images.shape[2:]]
    small = functional.interpolate(images.cpu(), size, mode="area")
    held = functional.interpolate(torch.from_numpy(found.maps).float(), size, mode="bilinear")
    held = held / held.amax((0, 2, 3), keepdim=True).clamp(min=1e-30)
    pictures, maps = [], []
    for index, column in enumerate(found.weights.T):
        best = list(dict.fromkeys(crop_images[np.argsort(-column, kind="stable")].tolist()))[:CROPS_SHOWN]
        chosen = torch.from_numpy(np.searchsorted(rows, best))
        chosen = torch.cat([chosen, chosen[-1:].expand(CROPS_SHOWN - len(chosen))])
        pictures.append((small[chosen] * 255).round().byte())
        maps.append((held[chosen, index] * 255).round().byte())
    return torch.stack(pictures), torch.stack(maps)


def _joined(parts: list[dict[str, Tensor]], rows: list[Tensor], batch: Batch) -> dict[str, Array]:
    """The classes' tensors in one: by class, or by example, filled up with NaN or 0."""
    count = max(int(part["count"]) for part in parts)
    arrays: dict[str, Array] = {}
    for name in ("directions", "tcav", "along", "shown", "shown_maps"):
        arrays[name] = np.stack([_filled(part[name].numpy(), count) for part in parts])
    for name in ("tcav_random", "along_random"):
        arrays[name] = np.stack([part[name].numpy() for part in parts])
    names = [name for name in (*_PER_EXAMPLE, "inside", "maps", "explained") if name in parts[0]]
    for name in names:
        first = parts[0][name].numpy()
        shape = (len(batch), *first.shape[1:]) if first.ndim == 1 else (len(batch), count, *first.shape[2:])
        joined = np.full(shape, 0 if name in ("maps", "explained") else np.nan, first.dtype)
        for part, where in zip(parts, rows, strict=True):
            values = part[name].numpy()
            joined[where.cpu().numpy()] = (
                values if values.ndim == 1 else _filled(values.swapaxes(0, 1), count).swapaxes(0, 1)
            )
        arrays[name] = joined
    if batch.masks is not None:
        arrays["area"] = precise(batch.masks).flatten(1).mean(1).cpu().numpy()
    return arrays


def _filled(values: Array, count: int) -> Array:
    """Rows of zeros, or of NaN where numbers are floats of 64 bits, after the first axis up to a length."""
    missing = np.full((count - len(values), *values.shape[1:]), np.nan if values.dtype == np.float64 else 0)
    return np.concatenate([values, missing.astype(values.dtype)])


def _user_scores(
    layer: ConceptLayer, batch: Batch, groups: dict[int, Tensor], folders: dict[str, str], cell: Cell
) -> dict[str, Tensor]:
    """By concept of the user's, (classes, 4): its images, its mean score, that of random sets, and the p-value."""
    pool = layer.pooled(batch.images).cpu().numpy()
    examples = {}
    for name, folder in folders.items():
        images = concept_images(Path(folder), (*batch.images.shape[1:],), _MOST_OF_A_CONCEPT)
        examples[name] = layer.pooled(images.to(batch.images.device)).cpu().numpy()
    rows: dict[str, list[list[float]]] = {name: [] for name in folders}
    for label, where in groups.items():
        gradients = layer.gradients(batch.images[where], label).cpu().numpy()
        for name, activations in examples.items():
            draws = np.random.default_rng(derive_seed("user-concept", cell.seed, name, label))
            score, random, along, controls = concept_scores(
                gradients, [activations], pool, cell.settings["random"], draws
            )
            p = draw_p(float(along[0]), controls.tolist())
            rows[name].append([float(len(activations)), float(score[0]), float(random[0]), p])
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in rows.items()}


def _user_facts(user: dict[str, Tensor], labels: list[str]) -> tuple[UserConceptFacts, ...]:
    return tuple(
        UserConceptFacts(
            name=name, label=label, images=int(row[0]), score=float(row[1]), random_score=float(row[2]), p=float(row[3])
        )
        for name, rows in user.items()
        for label, row in zip(labels, rows, strict=True)
    )
