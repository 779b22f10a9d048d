"""mAP of each detector in every condition with its bootstrap samples, and the first detector against the last."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from audit.document.model import DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.average_precision import basic_bootstrap
from audit.results.queries import model_roles
from audit.results.run_results import RunResults

if TYPE_CHECKING:
    from audit.topics.detection_comparison.measured import PrecisionCondition


class SampledPrecision(DocumentModel):
    """mAP of one detector in one condition.

    Attributes:
        role: The detector's role.
        quantity: "mAP clean", "mAP under attack, linf 8/255", "mAP under corruptions" or "mAP under a patch, hide".
        protocol: SHA-256 of the methods and settings; empty where there are none.
        images: Which images: first position in the audit order, the one after the last, and the step.
        precision: Over overlaps .50 to .95, with its interval over images.
        samples: mAP of each bootstrap sample, in [0, 1]; None where none of its images has an object. Sample b of two
            runs draws the same images where they have the same.
    """

    role: str
    quantity: str
    protocol: str
    images: tuple[int, int, int]
    precision: Proportion
    samples: list[float | None]


class PrecisionChange(DocumentModel):
    """mAP of two detectors in one condition on the same images.

    Attributes:
        quantity: `SampledPrecision.quantity`.
        before: Of the first.
        after: Of the second.
        difference: `after` less `before`, with its interval over images, which are drawn together.
        p_value: Two-sided, that both are equal, by the standard error of the bootstrap.
    """

    quantity: str
    before: Proportion
    after: Proportion
    difference: Proportion
    p_value: float


def build(results: RunResults, context: SectionContext) -> Rows:
    """Every condition of every detector; the first detector of the run against the last, where there are two.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    from audit.topics.detection_comparison.measured import conditions

    rows = [
        sampled_precision(role, condition, context.ids)
        for role in model_roles(results)
        for condition in conditions(results, role)
    ]
    roles = list(dict.fromkeys(row.role for row in rows))
    changes: list[PrecisionChange] = []
    if len(roles) > 1:
        last = {row.quantity: row for row in rows if row.role == roles[-1]}
        changes = [
            change_of_precision(row, last[row.quantity])
            for row in rows
            if row.role == roles[0] and row.quantity in last and last[row.quantity].images == row.images
        ]
    return {"detection_precision": rows, "detection_comparison": changes}


def change_of_precision(first: SampledPrecision, second: SampledPrecision) -> PrecisionChange:
    """What changed from one detector to another, both measured on the same images in the same way.

    Args:
        first: The first.
        second: The second.
    """
    pairs = [(a, b) for a, b in zip(first.samples, second.samples, strict=True) if a is not None and b is not None]
    falls = np.array([b - a for a, b in pairs])
    difference = second.precision.estimate - first.precision.estimate
    interval = basic_bootstrap(np.asarray(difference), falls, first.precision.n, least=-1.0)
    error = float(falls.std(ddof=1)) if len(falls) > 1 else 0.0
    chance = 2 * float(ndtr(-abs(difference) / error)) if error > 0 else float(difference == 0)
    return PrecisionChange(
        quantity=first.quantity,
        before=first.precision,
        after=second.precision,
        difference=proportion(interval),
        p_value=float(chance),
    )


def sampled_precision(role: str, condition: PrecisionCondition, ids: Sequence[str]) -> SampledPrecision:
    """The row of one condition.

    Args:
        role: The detector's role.
        condition: What was found.
        ids: Names of all images, in the audit order.
    """
    estimate, samples = condition.sampled(ids)
    return SampledPrecision(
        role=role,
        quantity=condition.quantity,
        protocol=hashlib.sha256(condition.protocol.encode()).hexdigest() if condition.protocol else "",
        images=condition.images,
        precision=proportion(basic_bootstrap(np.asarray(estimate), samples, len(range(*condition.images)))),
        samples=[round(float(value), 5) if np.isfinite(value) else None for value in samples],
    )
