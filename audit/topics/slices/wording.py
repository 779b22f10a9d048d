"""Slices in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from audit.core.evidence import Array
from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.core.note import Note, note
from audit.metrics.slice_candidates import CLUSTER, LABEL, QuantileLevel, SliceCandidate, SliceCondition
from audit.topics.slices.described import OF_DATA, DescribedImages, SliceOutcome

_ATTRIBUTES: Mapping[str, Note] = {
    "brightness": note("slice_brightness", "brightness"),
    "contrast": note("slice_contrast", "contrast"),
    "sharpness": note("slice_sharpness", "sharpness"),
    "object_size": note("slice_object_size", "share of the image the object fills"),
    "object_row": note("slice_object_row", "distance of the object from the top"),
    "object_column": note("slice_object_column", "distance of the object from the left"),
    "saturation": note("slice_saturation", "saturation"),
    "warmth": note("slice_warmth", "red over blue"),
    OF_DATA + ORIGINAL_SIDE: note("slice_side", "size of the original in pixels"),
    OF_DATA + ORIGINAL_ASPECT: note("slice_aspect", "width over height of the original"),
}
_TYPICAL: Mapping[str, tuple[Note, Note]] = {
    "brightness": (note("slice_bright", "bright"), note("slice_dark", "dark")),
    "contrast": (note("slice_contrasty", "of high contrast"), note("slice_flat", "of low contrast")),
    "sharpness": (note("slice_sharp", "finely textured"), note("slice_soft", "smooth")),
    "object_size": (note("slice_large", "large object"), note("slice_small", "small object")),
    "object_row": (note("slice_bottom", "object near the bottom"), note("slice_top", "object near the top")),
    "object_column": (note("slice_right", "object to the right"), note("slice_left", "object to the left")),
    "saturation": (note("slice_colourful", "colourful"), note("slice_pale", "pale")),
    "warmth": (note("slice_reddish", "reddish"), note("slice_bluish", "bluish")),
}
"""By attribute, what is said of images in which it is high, and low."""
_LEVELS: Mapping[QuantileLevel, Note] = {
    "lowest-tenth": note("slice_lowest_tenth", "{attribute} in the lowest tenth (up to {high})"),
    "lowest-fifth": note("slice_lowest_fifth", "{attribute} in the lowest fifth (up to {high})"),
    "low": note("slice_low", "{attribute} in the second fifth ({low} to {high})"),
    "middle": note("slice_middle", "{attribute} in the middle fifth ({low} to {high})"),
    "high": note("slice_high", "{attribute} in the fourth fifth ({low} to {high})"),
    "highest-fifth": note("slice_highest_fifth", "{attribute} in the highest fifth (from {low})"),
    "highest-tenth": note("slice_highest_tenth", "{attribute} in the highest tenth (from {low})"),
}
_MOSTLY = 0.5
"""The share of a slice from which it is said to be mostly of a class, or of two."""
_DISTINCT = 0.8
"""Standard deviations that a cluster's mean is off for an attribute to be said of it: a large effect (Cohen 1988)."""
_SAID = 2


def describe_slice(described: DescribedImages, outcome: SliceOutcome, candidate: SliceCandidate) -> Note:
    """The slice in words: its conditions, the classes it is mostly of, and what is typical of a cluster.

    Args:
        described: The images.
        outcome: What the members of the slice were measured for.
        candidate: The slice.
    """
    members = described.outcomes[outcome].positions[candidate.members]
    words = [_condition(condition) for condition in candidate.conditions]
    sentence = words[0]
    if len(words) > 1:
        sentence = note("slice_both", "{first}, {second}", first=words[0], second=words[1])
    typical: list[Note] = []
    if any(condition.attribute == CLUSTER for condition in candidate.conditions):
        typical = _typical(described.columns, members)
    for item in typical:
        sentence = note("slice_with", "{slice}, {typical}", slice=sentence, typical=item)
    if all(condition.attribute != LABEL for condition in candidate.conditions):
        names = _mostly(described.labels[members], described.classes)
        if names:
            sentence = note("slice_mostly", "{slice}; mostly {classes}", slice=sentence, classes=", ".join(names))
    return sentence


def attribute_name(attribute: str) -> Note | str:
    """What a column is called.

    Args:
        attribute: Its name among the columns of `DescribedImages`.
    """
    return _ATTRIBUTES.get(attribute) or attribute.removeprefix(OF_DATA)


def _condition(condition: SliceCondition) -> Note:
    if condition.attribute == LABEL:
        return note("slice_class", "class {value}", value=condition.value)
    if condition.attribute == CLUSTER:
        return note("slice_cluster", "images alike to the model (group {value})", value=condition.value)
    name = attribute_name(condition.attribute)
    if not condition.level:
        return note("slice_group", "{attribute}: {value}", attribute=name, value=condition.value)
    low, high = (f"{value:.3g}" for value in (condition.low, condition.high))
    return _LEVELS[condition.level].filled(attribute=name, low=low, high=high)


def _typical(columns: Mapping[str, Array], members: Array) -> list[Note]:
    """What sets a cluster apart, the strongest first."""
    effects: list[tuple[float, str]] = []
    for name in _TYPICAL:
        values = columns.get(name)
        if values is None or values.dtype.kind != "f" or not np.isfinite(values).all() or values.std() == 0:
            continue
        effects.append((float((values[members].mean() - values.mean()) / values.std()), name))
    strong = sorted((effect for effect in effects if abs(effect[0]) >= _DISTINCT), key=lambda e: -abs(e[0]))
    return [_TYPICAL[name][0 if effect > 0 else 1] for effect, name in strong[:_SAID]]


def _mostly(labels: Array, classes: Sequence[str]) -> list[str]:
    """The class that makes up most of a slice, or the two that do; none where they are more."""
    counts = np.bincount(labels, minlength=len(classes)) / max(1, len(labels))
    order = np.argsort(-counts, kind="stable")[:_SAID]
    if counts[order[0]] >= _MOSTLY:
        return [classes[order[0]]]
    return [classes[i] for i in order] if counts[order].sum() >= 1.5 * _MOSTLY else []
