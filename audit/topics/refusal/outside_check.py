"""Whether images that a model was not made for can be told."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.note import note
from audit.core.registry import check
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.refusal.config import RefusalConfig
from audit.topics.refusal.facts import CLEAN
from audit.topics.refusal.measured import OutsideOutcome, entries_of, outside_outcomes

_WORDS = {
    "noise": note("foreign_noise", "noise"),
    "textures": note("foreign_textures", "textures"),
    "digits": note("foreign_digits", "handwritten digits"),
    "own": note("foreign_own", "the foreign images given"),
}
MIN_TOLD = 50
"""Least images of each kind in the half that is judged."""


@check(
    section="refusal",
    priority=24,
    title_pass="Images that the {role} model is not made for are told by {score} (AUROC at least {estimate:.2f})",
    title_fail="Images that the {role} model is not made for are not told by any score (AUROC {estimate:.2f}, "
    "{images})",
    title_inconclusive="Whether images that the {role} model is not made for can be told cannot be said of {n} images",
    explanation="Of five scores of strangeness, {score} told foreign images best on one half of them. On the other "
    "half the kind that it tells worst, {images}, is told from clean images with AUROC {estimate:.3f} (95% interval "
    "{low:.3f} to {high:.3f}); with 95% of it, {fpr:.1%} of clean images are refused.",
    criterion="The lower bound of the 95% interval of the lowest AUROC must be at least {threshold:.2f}; "
    "it fails where the upper bound is below.",
    advice="Do not take the model's confidence for a guard against other images: put a detector before it, such as the "
    "score in the table that tells most, or give it only images that are known to be of its kind.",
    advice_inconclusive="Ask of more images (`refusal.examples`, `refusal.shifted`).",
    reference="arXiv:1610.02136",
    version="2",
)
def out_of_distribution(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The AUROC of the score that is best on one half, on the other, of the foreign images it tells worst.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    clean = entries_of(results, role, CLEAN)
    if not clean:
        return None
    threshold = config.table(RefusalConfig).auroc
    choosing = np.arange(len(clean[0].task.examples)) % 2 == 0
    chosen = _worst_by_score(outside_outcomes(results, role, part=choosing))
    judged = _worst_by_score(outside_outcomes(results, role, part=~choosing))
    if not chosen or not judged:
        return None
    score = max(chosen, key=lambda name: chosen[name].auroc.estimate)
    worst = judged[score]
    values = template_values(
        worst.auroc,
        score=score,
        images=_WORDS.get(worst.images, worst.images),
        fpr=worst.fpr95.estimate,
        threshold=threshold,
    )
    keys = cell_keys(results.entries("refusal", role=role))
    if min(worst.count, worst.fpr95.n) < MIN_TOLD:
        return CheckResult("inconclusive", worst.auroc, keys, values, unit="AUROC")
    doubt: Verdict = "warn" if worst.auroc.high < threshold else "inconclusive"
    verdict: Verdict = "pass" if worst.auroc.low >= threshold else doubt
    return CheckResult(verdict, worst.auroc, keys, values, unit="AUROC")


def _worst_by_score(outcomes: list[OutsideOutcome]) -> dict[str, OutsideOutcome]:
    """By score, the foreign images that it tells worst."""
    worst: dict[str, OutsideOutcome] = {}
    for outcome in outcomes:
        if outcome.foreign and (
            outcome.score not in worst or outcome.auroc.estimate < worst[outcome.score].auroc.estimate
        ):
            worst[outcome.score] = outcome
    return worst
