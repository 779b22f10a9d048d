"""The first images of the audit, each as every model sees it: prediction, adversarial example, maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from audit.core.evidence import Array
from audit.document.images import heatmap, magnitude, picture, picture_of_floats
from audit.document.model import Heatmap
from audit.document.schema import GalleryItem, GalleryView
from audit.metrics.classification import probabilities
from audit.report.metadata import RunMetadata
from audit.results.queries import by_example, group_by_condition, model_roles, only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.explanations.attacked import EXPLAINED_POSITIONS
from audit.topics.robustness.facts import ADVERSARIAL_POSITIONS, CLEAN, RobustnessFacts

_UNCLIPPED = 0.9
_TYPICAL = 3.0
IN_FULL = 24
"""Images that come with maps of their adversarial examples where there are any; later ones come without, for a smaller
file."""

Maps = Mapping[str, Mapping[int, Array]]
"""By method and by position in the audit order, attributions (C or 1, H, W)."""
Heatmaps = Mapping[str, Mapping[int, Heatmap]]
"""By method and by position in the audit order, attributions as they are drawn."""


@dataclass(frozen=True)
class _Attack:
    """What the headline attack made of one image.

    Attributes:
        image: The adversarial image, float32 (C, H, W); the clean one where none was found.
        broken_by: The attack that broke it first; None where none did.
        logits: Of the adversarial image, (classes,); None where they were not stored.
    """

    image: Array
    broken_by: str | None
    logits: Array | None


@dataclass(frozen=True)
class _Evidence:
    """What one model has to show, each by position in the audit order.

    Attributes:
        logits: Of clean images, (classes,) each.
        attacks: What became of the attacked images.
        maps: Attributions of clean images.
        adversarial_maps: Attributions of adversarial images.
    """

    logits: Mapping[int, Array]
    attacks: Mapping[int, _Attack] = field(default_factory=dict)
    maps: Heatmaps = field(default_factory=dict)
    adversarial_maps: Heatmaps = field(default_factory=dict)


def gallery(results: RunResults, metadata: RunMetadata) -> list[GalleryItem]:
    """Images with the predictions, adversarial images and attributions of every model.

    Args:
        results: The run.
        metadata: Holds the pixels of the first images of the audit order.

    Returns:
        One item per image of `metadata.gallery` that was classified; empty when clean accuracy is missing.
    """
    roles = model_roles(results)
    if not roles:
        return []
    labels = by_example(results.entries("accuracy", role=roles[0]), "labels")
    positions = [position for position in range(len(metadata.gallery)) if position in labels]
    evidence = {role: _read(results, role, positions) for role in roles}
    return [
        GalleryItem(
            id=metadata.ids[position],
            label=metadata.classes[int(labels[position])],
            image=picture(metadata.gallery[position]),
            views=[
                _view(role, evidence[role], position, metadata) for role in roles if position in evidence[role].logits
            ],
        )
        for position in positions
    ]


def _read(results: RunResults, role: str, positions: Sequence[int]) -> _Evidence:
    clean, adversarial = (_attributions(results, role, on) for on in ("clean", "adversarial"))
    return _Evidence(
        logits=by_example(results.entries("accuracy", role=role), "logits"),
        attacks=_attacks(results, role),
        maps=_heatmaps(clean, clean, positions),
        adversarial_maps=_heatmaps(adversarial, clean, positions[:IN_FULL]),
    )


def _view(role: str, evidence: _Evidence, position: int, metadata: RunMetadata) -> GalleryView:
    shares = probabilities(evidence.logits[position][None])[0]
    attack = evidence.attacks.get(position)
    # An attribution of an adversarial image has a meaning only where there is one.
    broken = attack is not None and attack.broken_by not in (None, CLEAN)
    return GalleryView(
        role=role,
        prediction=metadata.classes[int(shares.argmax())],
        confidence=float(shares.max()),
        **_attack_view(attack, metadata.gallery[position], metadata.classes),
        maps=_of_image(evidence.maps, position),
        adversarial_maps=_of_image(evidence.adversarial_maps, position) if broken else {},
    )


def _of_image(heatmaps: Heatmaps, position: int) -> dict[str, Heatmap]:
    return {method: maps[position] for method, maps in heatmaps.items() if position in maps}


def _attack_view(attack: _Attack | None, pixels: Array, classes: Sequence[str]) -> dict[str, object]:
    view: dict[str, object] = dict.fromkeys(
        ("broken_by", "adversarial", "perturbation", "adversarial_prediction", "adversarial_confidence")
    )
    if attack is None or attack.broken_by is None:
        return view
    view["broken_by"] = attack.broken_by
    if attack.broken_by == CLEAN:
        return view
    view["adversarial"] = picture_of_floats(attack.image)
    view["perturbation"] = heatmap((attack.image - pixels / 255) / len(attack.image), signed=True)
    if attack.logits is not None:
        shares = probabilities(attack.logits[None])[0]
        view["adversarial_prediction"] = classes[int(shares.argmax())]
        view["adversarial_confidence"] = float(shares.max())
    return view


def _attacks(results: RunResults, role: str) -> dict[int, _Attack]:
    """By position in the audit order, the images of the first threat model whose adversarial images were stored."""
    for at, entries in group_by_condition(only_measured(results.entries("robustness", role=role))):
        images = by_example(entries, "adversarial", positions=ADVERSARIAL_POSITIONS)
        if images:
            logits = by_example(entries, "adversarial_logits", positions=ADVERSARIAL_POSITIONS)
            broken_by = _broken_by(entries, at.eps)
            return {at: _Attack(image, broken_by[at], logits.get(at)) for at, image in images.items()}
    return {}


def _broken_by(entries: Iterable[TaskResult], eps: float) -> dict[int, str | None]:
    """By position in the audit order, the attack that broke the image first at an eps."""
    names: dict[int, str | None] = {}
    for entry in entries:
        facts = entry.evidence.facts_as(RobustnessFacts)
        row = int(np.argmin(np.abs(np.asarray(facts.eps, np.float64) - eps)))
        for position, breakers in by_example([entry], "broken_by", axis=1).items():
            index = int(breakers[row])
            names[position] = facts.attacks[index] if index >= 0 else None
    return names


def _attributions(results: RunResults, role: str, on: str) -> Maps:
    return {
        at.method: maps
        for at, entries in group_by_condition(results.entries("explanation", role=role), "on")
        if (at.setting or "clean") == on
        and (maps := by_example(entries, "attributions", positions=EXPLAINED_POSITIONS))
    }


def _heatmaps(attributions: Maps, clean: Maps, positions: Iterable[int]) -> Heatmaps:
    """The maps at `positions` on the colour scale of all `clean` ones, so that a faint map looks faint and a small
    gallery is coloured as a large one; a method counts as signed when any of its values is negative."""
    heatmaps: dict[str, dict[int, Heatmap]] = {}
    for method, maps in attributions.items():
        clean_maps = clean.get(method, maps)
        signed = any(bool((values < 0).any()) for values in (*maps.values(), *clean_maps.values()))
        scale = _colour_scale(clean_maps.values())
        heatmaps[method] = {at: heatmap(maps[at], signed=signed, scale=scale) for at in positions if at in maps}
    return heatmaps


def _colour_scale(attributions: Iterable[Array]) -> float:
    """The value drawn in full colour: `_UNCLIPPED` of the maps stay below it, unless that is more than `_TYPICAL`
    times what a map that is not empty reaches: outliers pale no others."""
    largest = np.array([magnitude(values) for values in attributions])
    if not largest.any():
        return 0.0
    return float(min(np.quantile(largest, _UNCLIPPED, method="higher"), _TYPICAL * np.median(largest[largest > 0])))
