"""Certified accuracy of each model: rows of the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from audit.core.evidence import Array
from audit.core.statistics import clopper_pearson
from audit.document.model import CurvePoint, DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults
from audit.topics.certification.facts import CertificationFacts
from audit.topics.robustness.facts import RobustnessFacts


class CertificatePart(DocumentModel):
    """Certified accuracy of one model.

    Attributes:
        role: Role of the model.
        method: The certificate, such as "smoothing".
        norm: Norm of the radii.
        certifies: The classifier that is certified: the model itself, or a smoothed one.
        curve: Share of images certified at each eps.
        median_radius: Median certified radius, in units of the pixel range [0, 1].
        abstained: Images on which the method gives no class.
        n: Number of images.
    """

    role: str
    method: str
    norm: str
    certifies: str
    curve: list[CurvePoint]
    median_radius: float
    abstained: int
    n: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """The certificates of each model at the eps that were attacked.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {"certificates": _certificates(results, _attacked_eps(results))}


def _attacked_eps(results: RunResults) -> dict[str, list[float]]:
    """The eps attacked, by norm: where a certificate is worth setting beside."""
    attacked: dict[str, set[float]] = {}
    for at, entries in group_by_condition(only_measured(results.entries("robustness"))):
        attacked.setdefault(at.norm, set()).update(
            float(eps) for eps in entries[0].evidence.facts_as(RobustnessFacts).eps
        )
    return {norm: sorted(sizes) for norm, sizes in attacked.items()}


def _certificates(results: RunResults, eps: Mapping[str, Sequence[float]]) -> list[CertificatePart]:
    """The share proven robust at each eps of the norm's curve: a lower bound, with the exact interval of its share."""
    parts = []
    for role in results.roles:
        for at, entries in group_by_condition(only_measured(results.entries("certification", role=role))):
            facts = [entry.evidence.facts_as(CertificationFacts) for entry in entries]
            norm, radius = facts[0].norm, per_example(entries, "certified_radius").values
            sizes = sorted(set(eps.get(norm, ())) | ({at.eps} if at.eps else set()))
            parts.append(
                CertificatePart(
                    role=role,
                    method=at.method,
                    norm=norm,
                    certifies=facts[0].certifies,
                    curve=[CurvePoint(eps=size, robust=_certified(radius, size)) for size in sizes],
                    median_radius=float(np.median(radius)),
                    abstained=sum(cell.abstained for cell in facts),
                    n=radius.size,
                )
            )
    return parts


def _certified(radius: Array, eps: float) -> Proportion:
    return proportion(clopper_pearson(int((radius > eps).sum()), radius.size))
