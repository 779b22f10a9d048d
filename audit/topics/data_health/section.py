"""What the document holds of the health of the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from audit.core.evidence import Array
from audit.core.statistics import Interval, clopper_pearson, share_of
from audit.data.health.label_noise import can_tell
from audit.document.images import picture
from audit.document.model import DocumentModel, Picture, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import PerExample, clean_correct, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults
from audit.topics.data_health.facts import HealthFacts, IssueFacts, KindFacts, LabelFacts, PartFacts
from audit.topics.data_health.issues import health_of, issues_of, labels_of

LISTED = 25
"""Issues of each kind and part in the document; the table of all of them lies in the run folder."""


class DataPartRow(PartFacts):
    """One part of the data."""


class DataIssueRow(IssueFacts):
    """One image with one issue.

    Attributes:
        picture: The image; None where it is not shown.
        copy_picture: The image it is a copy of, turned as it is.
        difference: Their difference around grey.
    """

    picture: Picture | None = None
    copy_picture: Picture | None = None
    difference: Picture | None = None


class LeakRow(DocumentModel):
    """What test images that are trained on too do to the figures of one model.

    Attributes:
        role: Role of the model.
        leaked: Share of the test images that are copies of training images, with its exact interval.
        clean: Clean accuracy on all test images.
        clean_without: The same without the copies; None where all are.
        robust: Robust accuracy of the first threat model; None where it was not measured.
        robust_without: The same without the copies.
    """

    role: str
    leaked: Proportion
    clean: Proportion | None = None
    clean_without: Proportion | None = None
    robust: Proportion | None = None
    robust_without: Proportion | None = None


class FileKindRow(KindFacts):
    """How well a property of image files tells the class."""


class ShiftRow(DocumentModel):
    """How far test images differ from training images.

    Attributes:
        auc: How well they are told apart: area under the ROC curve of held-out scores, 0.5 where they are not.
        low: Lower bound of its 95% interval.
        high: Upper bound.
        p_value: By permutation.
        images: Images compared.
    """

    auc: float
    low: float
    high: float
    p_value: float
    images: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """The parts, their issues, and what leaks do to each model's figures.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    health, labels = health_of(results), labels_of(results)
    if health is None:
        return {}
    evidence, facts = health
    parts = [_part_row(part, labels[1] if labels else None) for part in facts.parts]
    leaks = [leak_row(results, role, evidence.arrays["leaked"], facts) for role in context.roles if facts.leaked]
    return {
        "data_parts": parts,
        "data_issues": list(_issues(results, pictures=context.pictures)),
        "data_leaks": leaks,
        "data_kinds": [FileKindRow(**kind.model_dump()) for kind in facts.kinds],
        "data_shift": list(_shift(facts)),
    }


def _part_row(part: PartFacts, labels: LabelFacts | None) -> DataPartRow:
    """A part with what was said of its labels; no share of wrong ones where that could not be told."""
    row = DataPartRow(**part.model_dump())
    if part.split == "test" and labels:
        row = row.model_copy(update={"wrong": labels.wrong, "agreement": labels.agreement})
    told = row.wrong is None or can_tell(row.agreement, row.wrong.high)
    return row if told else row.model_copy(update={"wrong": None})


def leak_row(results: RunResults, role: str, leaked: Array, facts: HealthFacts) -> LeakRow:
    """The accuracy of a model with and without the test images that are trained on too.

    Args:
        results: The run.
        role: Role of the model.
        leaked: Their positions in the audit order.
        facts: The measured facts of the data.
    """
    clean = clean_correct(results, role) if results.labelled else PerExample(np.zeros(0, np.int64), np.zeros(0))
    groups = [entries for _, entries in group_by_condition(only_measured(results.entries("robustness", role=role)))]
    robust = per_example(groups[0] if groups else (), "robust")
    return LeakRow(
        role=role,
        leaked=proportion(leaked_share(facts)),
        clean=_share(clean.values),
        clean_without=_share(clean.values[~np.isin(clean.positions, leaked)]),
        robust=_share(robust.values),
        robust_without=_share(robust.values[~np.isin(robust.positions, leaked)]),
    )


def leaked_share(facts: HealthFacts) -> Interval:
    """The share of test images that are copies of training images, with its exact interval.

    Args:
        facts: The measured facts of the data.
    """
    return clopper_pearson(facts.leaked, next(part.images for part in facts.parts if part.split == "test"))


def _share(values: Array) -> Proportion | None:
    return proportion(share_of(values)) if len(values) else None


def _issues(results: RunResults, *, pictures: bool) -> Iterator[DataIssueRow]:
    counts: Counter[tuple[str, str]] = Counter()
    for issue, shown in issues_of(results):
        kind = issue.issue, issue.split
        counts[kind] += 1
        if counts[kind] > LISTED:
            continue
        row = DataIssueRow(**issue.model_dump())
        if pictures and shown is not None:
            row.picture = picture(shown[0])
            if issue.partner:
                row.copy_picture, row.difference = picture(shown[1]), picture(shown[2])
        yield row


def _shift(facts: HealthFacts) -> Iterator[ShiftRow]:
    if facts.auc is not None and facts.auc_interval is not None:
        low, high = facts.auc_interval
        yield ShiftRow(auc=facts.auc, low=low, high=high, p_value=facts.p_value, images=facts.compared)
