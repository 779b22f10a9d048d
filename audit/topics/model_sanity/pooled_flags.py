"""The red flags of the cells of one study: shares are taken over the images of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from audit.adversarial.red_flags import RedFlag, over_threshold
from audit.adversarial.thresholds import THRESHOLDS
from audit.core.note import Note
from audit.results.queries import per_example
from audit.results.run_results import TaskResult
from audit.topics.model_sanity.facts import SuspicionFacts


def sentences(entries: Sequence[TaskResult]) -> tuple[Note, ...]:
    """The sentence of each red flag that some entries raise, once.

    Args:
        entries: Cells of one study and model, with `SuspicionFacts`.
    """
    return tuple(dict.fromkeys(flag.sentence for flag in pooled_flags(entries)))


def pooled_flags(entries: Sequence[TaskResult]) -> tuple[RedFlag, ...]:
    """The red flags of cells: those that one raises by itself, and those of the shares over the images of the others.

    A share is held against its threshold once, over the images of all cells, so that the answer is the same however
    many images a cell holds.

    Args:
        entries: Cells of one study and model, with `SuspicionFacts`.
    """
    judged = [entry.evidence.facts_as(SuspicionFacts).suspicions for entry in entries]
    alone = [flag for flags in judged for flag in flags or ()]
    pooled = [entry for entry, flags in zip(entries, judged, strict=True) if flags is None]
    names = [m.name for m in pooled[0].evidence.measurements if m.name in THRESHOLDS] if pooled else []
    return (*alone, *over_threshold({name: per_example(pooled, name).values for name in names}, names))
