"""Does the model go by the concepts that were found, and do they lie on the object?"""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import CheckValue, Verdict
from audit.core.note import note
from audit.core.registry import check
from audit.core.statistics import bootstrap_mean, share_of
from audit.results.check_result import CheckResult, cap_at_warning, template_values
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.concepts.facts import ConceptsFacts, UserConceptFacts
from audit.topics.concepts.judged import CONCEPT_LEVEL, judged_concepts, judged_user_concepts

LEAST_HELD = 0.5
"""Least share of the leading concepts that must matter more than random directions."""


@check(
    section="explanations",
    title_pass="What the {role} model goes by was found: {held} of {classes} classes rest on their leading concept",
    title_fail="The concepts found are not what the {role} model goes by",
    title_inconclusive="Whether the {role} model goes by the concepts found is not told by {n} images",
    explanation="The leading concept of each of {classes} classes was taken off the activations of layer {layer}; that "
    "lowers the class's logit by more than taking off random directions of as much energy for {held} of them, and it "
    "passes the two-sided test against random sets of crops for {tested} (both at the 5% level, Holm's correction over "
    "all concepts). The concepts account for {explained:.0%} of the squared activations.",
    criterion="At least {threshold:.0%} of the leading concepts must matter more than random directions.",
    advice="Do not read the concepts as reasons; look for more of them (`concepts.count`) in more images "
    "(`concepts.examples`).",
    reference="arXiv:2211.10154",
)
def concepts(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The share of classes whose leading concept matters more than random directions.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("concepts", role=role))
    leading = [group[0] for group in judged_concepts(entries)]
    if not leading:
        return None
    held, tested = (np.array([getattr(concept, name) for concept in leading]) for name in ("faithful", "tested"))
    share = share_of(held)
    images = sum(len(concept.examples) for concept in leading)
    values = template_values(
        share,
        held=int(held.sum()),
        tested=int(tested.sum()),
        classes=len(leading),
        layer=entries[0].evidence.facts_as(ConceptsFacts).layer,
        explained=entries[0].evidence.measurement("explained").mean,
        threshold=LEAST_HELD,
    )
    verdict: Verdict = "pass" if share.estimate >= LEAST_HELD else "warn"
    return CheckResult("inconclusive" if images < 10 else verdict, share, cell_keys(entries), {**values, "n": images})


@check(
    section="explanations",
    title_pass="The leading concepts of the {role} model lie on the marked objects",
    title_fail="Concepts in the background lead {classes} for the {role} model",
    title_inconclusive="Whether the leading concepts of the {role} model lie on the objects is not told by {n} images",
    explanation="Masks say where the object lies. Of the leading concepts' maps {inside:.0%} falls inside, and the "
    "masks cover {area:.0%} of the images: {estimate:+.3f} (95% interval {low:+.3f} to {high:+.3f}) over chance.",
    criterion="No class may be led by a concept that lies off the object more than chance has it.",
    advice="Look for a shortcut at that place: `audit run --only explanations --set shortcuts.examples=1000` exchanges "
    "it between images and sees whether the predictions follow.",
)
def concepts_on_the_object(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Whether the leading concept of each class lies inside the masks.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("concepts", role=role))
    placed = [(group[0], group[0].background) for group in judged_concepts(entries)]
    marked = [(concept, advantage) for concept, advantage in placed if advantage is not None]
    if not marked:
        return None
    inside, area = (np.concatenate([np.asarray(getattr(c, name)) for c, _ in marked]) for name in ("inside", "area"))
    advantage = bootstrap_mean(inside - area)
    names = [concept.label for concept, where in marked if where.high < 0]
    values = template_values(advantage, inside=float(inside.mean()), area=float(area.mean()), classes=", ".join(names))
    verdict: Verdict = "fail" if names else "pass"
    return CheckResult(cap_at_warning(advantage, verdict), advantage, cell_keys(entries), values)


@check(
    section="explanations",
    title_pass="Concept {concept} moves {count} of {classes} classes of the {role} model",
    title_fail="Concept {concept} moves {count} of {classes} classes of the {role} model",
    explanation="A direction that parts {n} images of {concept} from images of the data was found against each of "
    "{sets} random sets. It moves a class where the share of its images that rise along it differs from that of random "
    "directions (two-sided, 5% level, Holm's correction): {moved}.",
    criterion="No class must be moved: it is said which are.",
    reference="arXiv:1711.11279",
)
def named_concepts(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """What each concept of the user's moves.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("concepts", role=role))
    rows = judged_user_concepts(entries)
    return tuple(
        _named(name, [row for row in rows if row.name == name], entries) for name in dict.fromkeys(r.name for r in rows)
    )


def _named(name: str, rows: list[UserConceptFacts], entries: tuple[TaskResult, ...]) -> CheckResult:
    moved = [row for row in rows if row.p < CONCEPT_LEVEL]
    told = ", ".join(f"{row.label} {row.score:.0%}" for row in moved)
    values: dict[str, CheckValue] = {
        "concept": name,
        "count": len(moved),
        "classes": len(rows),
        "n": rows[0].images,
        "sets": int(entries[0].task.cell.settings["random"]),
        "moved": told or note("moved_none", "none"),
    }
    return CheckResult("informative", None, cell_keys(entries), values)
