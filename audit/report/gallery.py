"""The first images of the audit, each as every model sees it: prediction, adversarial example, maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audit.core.evidence import Array, Evidence
from audit.document.images import heatmap, magnitude, picture, picture_of_floats
from audit.document.model import Heatmap
from audit.document.schema import GalleryItem, GalleryView
from audit.metrics.classification import probabilities
from audit.report.metadata import RunMetadata
from audit.results.queries import group_by_condition, model_roles, only_measured
from audit.results.run_results import RunResults

CLEAN = "clean"
"""The name under which a battery books images that were wrong before any attack."""
_UNCLIPPED = 0.9
_TYPICAL = 3.0
IN_FULL = 24
"""Images shown with everything; later ones come without the maps of their adversarial examples: a smaller file."""


@dataclass(frozen=True)
class _AttackedImages:
    """The headline robustness of one model on the gallery: images, who broke each, logits where kept."""

    images: Array
    broken_by: Sequence[str | None]
    logits: Array | None


def gallery(results: RunResults, metadata: RunMetadata) -> list[GalleryItem]:
    """One item an image of `metadata.gallery`; empty when clean accuracy is missing."""
    labels = _first_chunk(results, "accuracy", audited_role(results), "labels")
    if labels is None:
        return []
    count = min(len(metadata.gallery), len(labels))
    roles = model_roles(results)
    views = {role: _views(results, role, metadata, count) for role in roles}
    return [
        GalleryItem(
            id=metadata.ids[i],
            label=metadata.classes[int(labels[i])],
            image=picture(metadata.gallery[i]),
            views=[views[role][i] for role in roles if views[role]],
        )
        for i in range(count)
    ]


def audited_role(results: RunResults) -> str:
    """The model under test: the first one of the run."""
    return next(iter(model_roles(results)), "")


def _views(results: RunResults, role: str, metadata: RunMetadata, count: int) -> list[GalleryView]:
    logits = _first_chunk(results, "accuracy", role, "logits")
    if logits is None:
        return []
    shares = probabilities(logits[:count])
    attacked = _attacked(results, role)
    clean, adversarial = (_attributions(results, role, on) for on in ("clean", "adversarial"))
    maps, adversarial_maps = _heatmaps(clean, clean, count), _heatmaps(adversarial, clean, min(count, IN_FULL))
    return [
        GalleryView(
            role=role,
            prediction=metadata.classes[int(shares[i].argmax())],
            confidence=float(shares[i].max()),
            **_attack_view(attacked, i, metadata),
            maps={name: heatmaps[i] for name, heatmaps in maps.items() if i < len(heatmaps)},
            adversarial_maps=_maps_of_broken(adversarial_maps, attacked, i),
        )
        for i in range(count)
    ]


def _maps_of_broken(maps: dict[str, list[Heatmap]], attacked: _AttackedImages | None, i: int) -> dict[str, Heatmap]:
    """An explanation of an adversarial example has a meaning only where there is one."""
    broken = attacked is not None and i < len(attacked.broken_by) and attacked.broken_by[i] not in (None, CLEAN)
    return {name: heatmaps[i] for name, heatmaps in maps.items() if broken and i < min(IN_FULL, len(heatmaps))}


def _attack_view(attacked: _AttackedImages | None, i: int, metadata: RunMetadata) -> dict[str, object]:
    empty = dict.fromkeys(
        ("broken_by", "adversarial", "perturbation", "adversarial_prediction", "adversarial_confidence")
    )
    if attacked is None or i >= len(attacked.images) or attacked.broken_by[i] is None:
        return dict(empty)
    if attacked.broken_by[i] == CLEAN:
        return {**empty, "broken_by": CLEAN}
    image = attacked.images[i]
    view: dict[str, object] = {
        **empty,
        "broken_by": attacked.broken_by[i],
        "adversarial": picture_of_floats(image),
        "perturbation": heatmap((image - metadata.gallery[i] / 255) / len(image), signed=True),
    }
    if attacked.logits is not None:
        shares = probabilities(attacked.logits[i : i + 1])[0]
        view["adversarial_prediction"] = metadata.classes[int(shares.argmax())]
        view["adversarial_confidence"] = float(shares.max())
    return view


def _attacked(results: RunResults, role: str) -> _AttackedImages | None:
    for at, entries in group_by_condition(results.entries("robustness", role=role)):
        start = [e for e in only_measured(entries) if e.task.examples.start == 0]
        if start and "adversarial" in start[0].evidence.arrays:
            return _read_attack(start[0].evidence, at.eps)
    return None


def _read_attack(evidence: Evidence, eps: float) -> _AttackedImages:
    images = evidence.arrays["adversarial"]
    names = evidence.facts.get("attacks", [])
    at = int(np.argmin(np.abs(np.asarray(evidence.facts["eps"], np.float64) - eps)))
    broken = evidence.arrays["broken_by"][at][: len(images)]
    return _AttackedImages(
        images,
        [names[int(index)] if index >= 0 else None for index in broken],
        evidence.arrays.get("adversarial_logits"),
    )


def _attributions(results: RunResults, role: str, on: str) -> dict[str, Array]:
    """By method, the attributions (N, C or 1, H, W) of the images explained first."""
    attributions: dict[str, Array] = {}
    for at, entries in group_by_condition(results.entries("explanation", role=role), "on"):
        start = [e for e in only_measured(entries) if e.task.examples.start == 0]
        if start and (at.setting or "clean") == on:
            attributions[at.method] = start[0].evidence.arrays["attributions"]
    return attributions


def _heatmaps(attributions: dict[str, Array], clean: dict[str, Array], count: int) -> dict[str, list[Heatmap]]:
    """By method, the first `count` maps on the colour scale of all `clean` ones, so that a faint map looks faint and
    a small gallery is coloured as a large one; a method counts as signed when any of its values is negative."""
    heatmaps = {}
    for method, values in attributions.items():
        clean_values = clean.get(method, values)
        signed, scale = bool((values < 0).any() or (clean_values < 0).any()), _colour_scale(clean_values)
        heatmaps[method] = [heatmap(image, signed=signed, scale=scale) for image in values[:count]]
    return heatmaps


def _colour_scale(attributions: Array) -> float:
    """The value drawn in full colour: `_UNCLIPPED` of the maps stay below it, unless that is more than `_TYPICAL`
    times what a map that is not empty reaches: outliers pale no others."""
    magnitudes = np.array([magnitude(attribution) for attribution in attributions])
    if not magnitudes.any():
        return 0.0
    return float(
        min(np.quantile(magnitudes, _UNCLIPPED, method="higher"), _TYPICAL * np.median(magnitudes[magnitudes > 0]))
    )


def _first_chunk(results: RunResults, study: str, role: str, name: str) -> Array | None:
    for entry in only_measured(results.entries(study, role=role)):
        if entry.task.examples.start == 0 and name in entry.evidence.arrays:
            return entry.evidence.arrays[name]
    return None
