"""What the studies of the data measure."""

from __future__ import annotations

from typing import Literal

from audit.core.evidence import Facts
from audit.core.statistics import Interval
from audit.document.model import DocumentModel, Proportion

Issue = Literal["leak", "duplicate", "conflict", "label", "blank", "unusual"]
ISSUES: tuple[Issue, ...] = ("leak", "conflict", "label", "blank", "duplicate", "unusual")
"""The kinds of issue, what matters most first."""


class IssueFacts(DocumentModel):
    """One image with one issue.

    Attributes:
        issue: The kind: "leak", a test image that is a copy of a training image; "duplicate", a copy within a part;
            "conflict", copies with different labels; "label", a label that is likely wrong; "blank", one colour;
            "unusual", unlike all others.
        split: The part of the data: "test" or "train".
        image: Its name.
        label: Its class; empty where there are no labels.
        partner: Name of the image it is a copy of; empty without one.
        partner_split: The part that one is in.
        partner_label: Its class; of a likely wrong label, the class that is likelier.
        score: How certain or how strong: for copies 1 less the residual of the best match as a share of the contrast,
            for labels the probability of being wrong, for blank images 1, for unusual ones robust standard deviations.
        exact: Whether a copy is the same to the pixel.
        symmetry: How a copy is turned into the image, see `audit.data.health.symmetries`.
    """

    issue: Issue
    split: str
    image: str
    label: str = ""
    partner: str = ""
    partner_split: str = ""
    partner_label: str = ""
    score: float = 1.0
    exact: bool = False
    symmetry: int = 0


class PartFacts(DocumentModel):
    """One part of the data.

    Attributes:
        split: "test" or "train".
        images: Number of images.
        blank: Number of images of one colour.
        unusual: Number of images unlike all others.
        duplicated: Number of images that are copies of an earlier one of the part.
        counts: Images of each class, in label order; empty without labels.
        wrong: Share of labels that are likely wrong; None where that was not asked.
        agreement: Share of labels that the classifier which judged them agrees with, in [0, 1]; None where none did.
    """

    split: str
    images: int
    blank: int
    unusual: int
    duplicated: int
    counts: tuple[int, ...] = ()
    wrong: Proportion | None = None
    agreement: float | None = None


class KindFacts(DocumentModel):
    """How well a property of image files tells the class (see `audit.data.health.association.Association`).

    Attributes:
        split: The part of the data.
        name: "size", "proportions" or "colour".
        values: Number of its values.
        information: Mutual information as a share of the entropy of the class, in [0, 1].
        expected: The same by chance.
        p_value: By permutation of the classes.
        guessed: Share of images whose class it guesses.
        anyway: Share that the commonest class guesses.
        label: The class it tells best.
        value: The value that goes with it.
    """

    split: str
    name: str
    values: int
    information: float
    expected: float
    p_value: float
    guessed: float
    anyway: float
    label: str
    value: str


class HealthFacts(Facts):
    """What was measured of the data.

    Attributes:
        parts: The training and the test part.
        issues: Every image with an issue, up to a bound.
        left_out: Issues beyond it.
        kinds: Properties of files that differ between images.
        auc: How well test images are told from training images; None without training images.
        auc_interval: Its 95% bounds.
        compared: Images it was measured on.
        p_value: By permutation.
        ratio: Largest share of the tenth neighbour's distance at which a pair was taken for copies.
        leaked: Number of test images that are copies of training images.
        classes: Names of the classes.
        labelled: Whether the labels are true ones.
    """

    parts: tuple[PartFacts, ...]
    issues: tuple[IssueFacts, ...] = ()
    left_out: int = 0
    kinds: tuple[KindFacts, ...] = ()
    auc: float | None = None
    auc_interval: tuple[float, float] | None = None
    compared: int = 0
    p_value: float = 1.0
    ratio: float = 0.0
    leaked: int = 0
    classes: tuple[str, ...] = ()
    labelled: bool = True


class LabelFacts(Facts):
    """What the model's predictions on test images say of their labels.

    Attributes:
        wrong: Share of labels that are likely wrong.
        agreement: Share of labels that the model agrees with, in [0, 1]; None in runs that did not store it.
        issues: The images whose label is more likely wrong than right; none where the model is wrong too often to say.
    """

    wrong: Proportion
    agreement: float | None = None
    issues: tuple[IssueFacts, ...] = ()


def as_interval(share: Proportion) -> Interval:
    """A share of the facts as an interval.

    Args:
        share: The share.
    """
    return Interval(share.estimate, share.low, share.high, share.n, share.method)
