"""Weak slices, and accuracy by group: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config import RunConfig
from audit.core.note import Note
from audit.core.statistics import Interval
from audit.document.images import picture
from audit.document.model import DocumentModel, Picture, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.weak_slices import TestedSlice
from audit.results.run_results import RunResults
from audit.topics.slices.described import (
    SLICE_OUTCOMES,
    DescribedImages,
    SliceOutcome,
    described_images,
    tested_slices,
)
from audit.topics.slices.groups import groups_of
from audit.topics.slices.wording import attribute_name, describe_slice

_PICTURES = 6


class SliceRow(DocumentModel):
    """A kind of image that was tested.

    Attributes:
        role: Role of the model.
        outcome: "clean" or "robust": what is rarer on it.
        slice: The kind in words.
        alike: Other words for nearly the same images.
        weak: Whether the test says that it is weaker.
        rate: Share of its images with the outcome, on the half that the test was made on.
        rest: The same of the images it is compared with.
        gap: The first less the second, in [-1, 1].
        gap_low: Lower bound of its 95% interval (Newcombe).
        gap_high: Upper bound.
        p_value: Of Fisher's exact test, corrected for the number of kinds tested (Holm).
        images: Images of this kind, in both halves.
        pictures: Some of them, those without the outcome first.
    """

    role: str
    outcome: SliceOutcome
    slice: Note
    alike: list[Note]
    weak: bool
    rate: Proportion
    rest: Proportion
    gap: float
    gap_low: float
    gap_high: float
    p_value: float
    images: int
    pictures: list[Picture]


class GroupShare(DocumentModel):
    """One group.

    Attributes:
        name: Its name; of numbers, which fifth of them.
        share: Share of its images with the outcome.
    """

    name: str
    share: Proportion


class GroupsRow(DocumentModel):
    """Accuracy of a model by group, in the words of fairlearn.

    Attributes:
        role: Role of the model.
        outcome: "clean" for accuracy, "robust" for robust accuracy.
        column: What the groups are of: "label", or a column of the data.
        overall: The share over all images.
        by_group: The share in each group.
        group_min: The smallest share.
        group_max: The largest share.
        difference: The largest less the smallest.
        ratio: The smallest over the largest; None where both are 0.
    """

    role: str
    outcome: SliceOutcome
    column: str
    overall: Proportion
    by_group: list[GroupShare]
    group_min: float
    group_max: float
    difference: Proportion
    ratio: Proportion | None


def build(results: RunResults, context: SectionContext) -> Rows:
    """The kinds of images that were tested, and the groups.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    slices: list[SliceRow] = []
    groups: list[GroupsRow] = []
    for role in context.roles:
        described = described_images(results, role)
        if described is not None:
            slices += _slices(described, role, context.config, pictures=context.pictures)
            groups += _groups(described, role)
    return {"weak_slices": slices, "groups": groups}


def _slices(described: DescribedImages, role: str, config: RunConfig, *, pictures: bool) -> Iterator[SliceRow]:
    for outcome in SLICE_OUTCOMES:
        for tested in tested_slices(described, outcome, config.seed):
            shown = _pictures(described, outcome, tested) if pictures and tested.is_weak else []
            own = {condition.attribute for condition in tested.candidate.conditions}
            others = [c for c in tested.alike if {condition.attribute for condition in c.conditions} != own]
            yield SliceRow(
                role=role,
                outcome=outcome,
                slice=describe_slice(described, outcome, tested.candidate),
                alike=[describe_slice(described, outcome, candidate) for candidate in others[:2]],
                weak=tested.is_weak,
                rate=proportion(tested.rate),
                rest=proportion(tested.rest),
                gap=tested.gap.estimate,
                gap_low=tested.gap.low,
                gap_high=tested.gap.high,
                p_value=tested.p_value,
                images=tested.n,
                pictures=shown,
            )


def _pictures(described: DescribedImages, outcome: SliceOutcome, tested: TestedSlice) -> list[Picture]:
    measured = described.outcomes[outcome]
    members = measured.positions[tested.candidate.members].tolist()
    without = dict(zip(measured.positions.tolist(), measured.values.tolist(), strict=True))
    ordered = sorted((p for p in members if p in described.pictures), key=lambda p: without[p])
    return [picture(described.pictures[position]) for position in ordered[:_PICTURES]]


def _groups(described: DescribedImages, role: str) -> Iterator[GroupsRow]:
    for outcome in SLICE_OUTCOMES:
        if outcome not in described.outcomes:
            continue
        for column, rates in groups_of(described, outcome):
            yield GroupsRow(
                role=role,
                outcome=outcome,
                column=str(attribute_name(column)),
                overall=proportion(rates.overall),
                by_group=[GroupShare(name=name, share=proportion(share)) for name, share in rates.by_group.items()],
                group_min=rates.group_min,
                group_max=rates.group_max,
                difference=proportion(rates.difference),
                ratio=_proportion(rates.ratio),
            )


def _proportion(interval: Interval | None) -> Proportion | None:
    return None if interval is None else proportion(interval)
