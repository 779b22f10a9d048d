"""Certified accuracy of each model: rows of the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from audit.core.evidence import Array
from audit.core.statistics import clopper_pearson
from audit.document.model import CurvePoint, DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    group_by_condition,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.certification.facts import BROKEN, LINEAR_BOUNDS, OPEN, PROVEN, CertificationFacts, next_problems
from audit.topics.certification.proven import certificates_of
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


class BracketPoint(DocumentModel):
    """What is known at one eps, over the same images.

    Attributes:
        eps: Size of the ball, in units of the pixel range [0, 1].
        proven: Share proven robust: a lower bound on robust accuracy.
        unbroken: Share that neither attacks nor branch and bound broke: an upper bound.
        open: Share of which neither is known, in [0, 1].
    """

    eps: float
    proven: Proportion
    unbroken: Proportion
    open: float


class BracketClass(DocumentModel):
    """The images of one class at the eps of the verdict.

    Attributes:
        name: Name of the class.
        proven: How many are proven.
        open: How many are neither proven nor broken.
        n: How many there are.
    """

    name: str
    proven: int
    open: int
    n: int


class Bracket(DocumentModel):
    """Between which bounds the robust accuracy of one model lies.

    Attributes:
        role: Role of the model.
        norm: Norm of the ball.
        points: By eps, ascending.
        proven_by: By bound, the images that it proved at the eps of the verdict, from the cheapest bound on.
        problems: Sub-problems of branch and bound an image at most; 0 where there was none.
        n: Number of images.
        per_class: By class that has images; empty where no labels are known.
    """

    role: str
    norm: str
    points: list[BracketPoint]
    proven_by: dict[str, int]
    problems: int
    n: int
    per_class: list[BracketClass] = Field(default_factory=list)


def build(results: RunResults, context: SectionContext) -> Rows:
    """The certificates of each model at the eps that were attacked.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {
        "certificates": _certificates(results, _attacked_eps(results)),
        "brackets": brackets(results, context.classes),
    }


def brackets(results: RunResults, classes: Sequence[str] = ()) -> list[Bracket]:
    """Proven, unbroken and open shares of each model at each eps.

    Args:
        results: The run.
        classes: Names of the classes; none where those are not asked.
    """
    rows = []
    for role in results.roles:
        proofs = [e for e in certificates_of(results, role) if e.task.cell.method == LINEAR_BOUNDS]
        for at, entries in group_by_condition(proofs):
            facts = [entry.evidence.facts_as(CertificationFacts) for entry in entries]
            eps = facts[0].eps
            verdicts = np.concatenate([np.asarray(e.evidence.arrays["verdicts"]) for e in entries], axis=1)
            verdict, first = eps.index(at.eps) if at.eps in eps else -1, entries[0].task.examples.start
            rows.append(
                Bracket(
                    role=role,
                    norm=facts[0].norm,
                    points=[_point(size, row) for size, row in zip(eps, verdicts, strict=True)],
                    proven_by=_proven_by(entries, facts, verdict),
                    problems=max(_problems(cell) for cell in facts),
                    n=verdicts.shape[1],
                    per_class=_per_class(results, role, verdicts[verdict], first, classes),
                )
            )
    return rows


def further_options(rows: Sequence[Bracket]) -> str:
    """The options of `audit run` that ask further what proofs left open: the next stage, see `plan.proof_stages`.

    Args:
        rows: The brackets of a run.
    """
    problems = max((row.problems for row in rows), default=0)
    more = f" --set certification.problems={next_problems(problems)}" if problems else ""
    return f"--set certification.effort=complete{more}"


def _proven_by(entries: Sequence[TaskResult], facts: Sequence[CertificationFacts], row: int) -> dict[str, int]:
    """The images that each bound proved, from the cheapest bound on."""
    counts: Counter[str] = Counter()
    for entry, cell in zip(entries, facts, strict=True):
        own = np.asarray(entry.evidence.arrays["proven_by"])[row]
        counts.update(cell.rungs[index] for index in own[own >= 0].tolist())
    return {rung: counts[rung] for rung in max((cell.rungs for cell in facts), key=len) if counts[rung]}


def _problems(facts: CertificationFacts) -> int:
    return int(facts.settings["problems"]) if "branch-and-bound" in facts.rungs else 0


def _per_class(
    results: RunResults, role: str, verdicts: Array, first: int, classes: Sequence[str]
) -> list[BracketClass]:
    labels = results.array("accuracy", "labels", role=role) if results.labelled else None
    if labels is None or len(labels) < first + len(verdicts):
        return []
    own = labels[first : first + len(verdicts)]
    rows = ((name, verdicts[own == label]) for label, name in enumerate(classes))
    return [
        BracketClass(name=name, proven=int((v == PROVEN).sum()), open=int((v == OPEN).sum()), n=v.size)
        for name, v in rows
        if v.size
    ]


def _point(eps: float, verdicts: Array) -> BracketPoint:
    n = verdicts.size
    proven, broken = int((verdicts == PROVEN).sum()), int((verdicts == BROKEN).sum())
    return BracketPoint(
        eps=eps,
        proven=proportion(clopper_pearson(proven, n)),
        unbroken=proportion(clopper_pearson(n - broken, n)),
        open=(n - proven - broken) / n,
    )


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
        for at, entries in group_by_condition(certificates_of(results, role)):
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
