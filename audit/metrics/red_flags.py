"""When evidence about a model and its gradients is reason to doubt what attacks report on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.core.evidence import Array


@dataclass(frozen=True)
class RedFlag:
    """A doubt: which quantity, its value, the limit it passed, and a sentence for the reader."""

    name: str
    value: float
    limit: float
    sentence: str


@dataclass(frozen=True)
class Threshold:
    """Doubt begins where more than `share` of the examples, and at least `fewest`, have a value above `above`."""

    above: float
    share: float
    sentence: str
    fewest: int = 1


THRESHOLDS: Mapping[str, Threshold] = {
    "not_finite": Threshold(0, 0, "The model gives NaN or infinity on {share:.0%} of the images."),
    "repeat_difference": Threshold(
        1e-4, 0, "The model answers differently each time on {share:.0%} of the images: attack its expectation instead."
    ),
    "batch_difference": Threshold(
        1e-3, 0, "On {share:.0%} of the images the answer depends on the other images in the batch."
    ),
    "ce_zero": Threshold(
        0, 0.05, "The gradient of cross-entropy is zero on {share:.0%} of the images: attacks on that loss are blind."
    ),
    "ce_nan": Threshold(0, 0, "The gradient of cross-entropy is NaN on {share:.0%} of the images."),
    "margin_zero": Threshold(
        0, 0.05, "The gradient of the margin is zero on {share:.0%} of the images: white-box attacks are blind there."
    ),
    "margin_nan": Threshold(0, 0, "The gradient of the margin is NaN on {share:.0%} of the images."),
    "linear_distance": Threshold(
        1.0, 0.1, "On {share:.0%} of the images the gradient is so small that it puts the boundary outside the box."
    ),
    "derivative_error": Threshold(
        0.5, 0.1, "On {share:.0%} of the images autograd's gradient is not the slope that finite differences find."
    ),
    "noise_shift": Threshold(0.2, 0.05, "Noise too small to record moves the margin on {share:.0%} of the images."),
    "plateau": Threshold(
        0, 0.05, "On {share:.0%} of the images tiny changes move nothing at all: the input is rounded on its way in."
    ),
}
"""By measurement. Values that are NaN count as passed."""


def red_flags(measured: Mapping[str, Array], facts: Mapping[str, Any]) -> tuple[RedFlag, ...]:
    """Every doubt that per-example measurements and the facts of a model give rise to; empty for an honest model.

    `facts`: output_kind, missing_gradient (why there is none), needs_autograd, in_training and changed_state (names).
    """
    return (*over_threshold(measured, THRESHOLDS), *_of_model(facts))


def _of_model(facts: Mapping[str, Any]) -> Iterator[RedFlag]:
    if facts["output_kind"] in ("probabilities", "one probability"):
        yield RedFlag("output_kind", 1, 0, "The model gives probabilities, which round to 0 and 1 where it is sure.")
    if facts["missing_gradient"]:
        yield RedFlag("missing_gradient", 1, 0, facts["missing_gradient"])
    if facts["needs_autograd"]:
        sentence = "The forward pass takes gradients itself: attacks must see through that step."
        yield RedFlag("needs_autograd", 1, 0, sentence)
    for name, sentence in _STATE.items():
        if facts[name]:
            yield RedFlag(name, len(facts[name]), 0, sentence.format(names=_few(facts[name])))


_STATE = {
    "in_training": "Modules stay in training mode: {names}.",
    "changed_state": "A forward pass changes the model's state: {names}.",
}


def over_threshold(measured: Mapping[str, Array], limits: Mapping[str, Threshold]) -> Iterator[RedFlag]:
    """A doubt for each limit that its measurement (N,) passes; sentences may name {share}, {count} and {n}."""
    for name, limit in limits.items():
        values = np.asarray(measured[name], dtype=np.float64)
        count = int(np.sum(~(values <= limit.above)))
        share = count / max(1, values.size)
        if share > limit.share and count >= limit.fewest:
            sentence = limit.sentence.format(share=share, count=count, n=values.size)
            yield RedFlag(name, share, limit.share, sentence)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
