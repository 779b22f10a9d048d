"""Red flags: reasons to doubt a model's gradients, an attack or a battery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audit.adversarial.thresholds import THRESHOLDS, rows_of
from audit.core.evidence import Array
from audit.core.note import Note, NoteValue, listed_with_more, note


@dataclass(frozen=True)
class RedFlag:
    """A reason to doubt what attacks report.

    Attributes:
        name: The quantity measured, a row of `THRESHOLDS` or a fact of the model.
        value: What was measured.
        limit: The largest value that raises no flag.
        sentence: What to tell the reader.
    """

    name: str
    value: float
    limit: float
    sentence: Note


def flag_if_above(name: str, value: float, *, limit: float | None = None, **words: NoteValue) -> RedFlag | None:
    """The flag of a row of `THRESHOLDS` where `value` is above its limit, else None.

    Args:
        name: The row.
        value: The share of the examples that count, in [0, 1].
        limit: Takes the place of the row's share, where that comes with the measurement.
        words: What the row's sentence is filled with, besides {share}.
    """
    row = THRESHOLDS[name]
    threshold = row.share if limit is None else limit
    return (
        RedFlag(name, value, threshold, row.sentence.filled(share=f"{value:.0%}", **words))
        if value > threshold
        else None
    )


def over_threshold(measured: Mapping[str, Array], names: Iterable[str]) -> Iterator[RedFlag]:
    """A flag for each row whose measurement passes it.

    Args:
        measured: One value an example, (N,), by row.
        names: The rows to look at.
    """
    for name in names:
        row, values = THRESHOLDS[name], np.asarray(measured[name], dtype=np.float64)
        count = int(np.sum(~(values <= row.above)))
        flag = flag_if_above(name, count / max(1, values.size), count=count, n=values.size)
        if flag is not None and count >= row.fewest:
            yield flag


def red_flags(measured: Mapping[str, Array], facts: Mapping[str, Any]) -> tuple[RedFlag, ...]:
    """Every flag of the model sanity check; empty for a model that can be evaluated.

    Args:
        measured: One value an example, (N,), by row of "model sanity".
        facts: Of the model: output_kind, missing_gradient (why there is none), needs_autograd, in_training and
            changed_state (names of modules and tensors).
    """
    return (*over_threshold(measured, rows_of("model sanity")), *_of_model(facts))


def _of_model(facts: Mapping[str, Any]) -> Iterator[RedFlag]:
    if facts["output_kind"] in ("probabilities", "sigmoid", "one probability"):
        sentence = note(
            "sanity_probabilities", "The model gives probabilities, which round to 0 and 1 where it is sure."
        )
        yield RedFlag("output_kind", 1, 0, sentence)
    if facts["missing_gradient"]:
        yield RedFlag("missing_gradient", 1, 0, facts["missing_gradient"])
    if facts["needs_autograd"]:
        sentence = note(
            "sanity_autograd", "The forward pass takes gradients itself: attacks must see through that step."
        )
        yield RedFlag("needs_autograd", 1, 0, sentence)
    for name, sentence in _STATE.items():
        if facts[name]:
            yield RedFlag(name, len(facts[name]), 0, sentence.filled(names=listed_with_more(facts[name], 3)))


_STATE = {
    "in_training": note("sanity_training", "Modules stay in training mode: {names}."),
    "changed_state": note("sanity_state", "A forward pass changes the model's state: {names}."),
}
