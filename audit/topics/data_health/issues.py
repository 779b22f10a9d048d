"""Every issue of a run's data, for the section and for the table of whoever mends the data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np

from audit.core.evidence import Array, Evidence
from audit.results.queries import only_measured
from audit.results.run_results import RunResults
from audit.topics.data_health.facts import ISSUES, HealthFacts, IssueFacts, LabelFacts

COLUMNS = ("image", "split", "label", "issue", "partner", "partner_split", "partner_label", "score", "suggestion")
_SUGGESTIONS = {
    "leak": "remove it from the training part, or from the test part",
    "conflict": "decide which label is right, and give it to both",
    "label": "look at the image and correct the label",
    "blank": "replace the image, or remove it",
    "duplicate": "keep one of the two",
    "unusual": "look whether the image belongs here",
}


def health_of(results: RunResults) -> tuple[Evidence, HealthFacts] | None:
    """What was measured of the data; None where it was not.

    Args:
        results: The run.
    """
    entries = only_measured(results.entries("data-health"))
    return (entries[0].evidence, entries[0].evidence.facts_as(HealthFacts)) if entries else None


def labels_of(results: RunResults) -> tuple[Evidence, LabelFacts] | None:
    """What the model's predictions say of the test labels; None where that was not asked.

    Args:
        results: The run.
    """
    entries = only_measured(results.entries("label-errors"))
    return (entries[0].evidence, entries[0].evidence.facts_as(LabelFacts)) if entries else None


def issues_of(results: RunResults) -> Iterator[tuple[IssueFacts, Array | None]]:
    """Each issue with its pictures, uint8 (3, C, h, w), or None where it is not shown; what matters most first, and of
    one kind those of the test part.

    Args:
        results: The run.
    """
    listed: list[tuple[IssueFacts, Array | None]] = []
    for measured in (health_of(results), labels_of(results)):
        if measured is not None:
            evidence, facts = measured
            shown, pictures = (evidence.arrays.get(name, np.zeros(0, np.int64)) for name in ("shown", "pictures"))
            by_number = dict(zip(shown.tolist(), pictures, strict=True))
            listed += [(issue, by_number.get(number)) for number, issue in enumerate(facts.issues)]
    yield from sorted(listed, key=lambda pair: (ISSUES.index(pair[0].issue), pair[0].split != "test"))


def issues_as_csv(results: RunResults) -> str | None:
    """The table of issues; None where the data was not measured.

    A cell that a spreadsheet would take for a formula begins with an apostrophe.

    Args:
        results: The run.

    Returns:
        A header and a row an issue, in CSV.
    """
    if health_of(results) is None:
        return None
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for issue, _ in issues_of(results):
        cells = [issue.image, issue.split, issue.label, issue.issue, issue.partner, issue.partner_split]
        row = [*cells, issue.partner_label, f"{issue.score:.4f}", _SUGGESTIONS[issue.issue]]
        writer.writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in row])
    return buffer.getvalue()
