"""Are the training images named behind answers those that the answers rest on?"""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.registry import check
from audit.core.statistics import bootstrap_mean, wilson
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys, only_measured, per_example
from audit.results.run_results import RunResults
from audit.topics.influence.facts import InfluenceFacts

LEAST_FIRST = 0.95
"""Least share of planted copies that must come first."""
MOST_ALIKE = 0.5
"""Most rank correlation with the influences under random labels."""


@check(
    section="explanations",
    title_pass="The training images named behind answers of the {role} model pass their controls",
    title_fail="The training images named behind answers of the {role} model do not pass their controls",
    title_inconclusive="Whether answers of the {role} model rest on the training images named is not told by {n} "
    "images",
    explanation="Copies of {n} images with a little noise were put among {training} training images: {first} came "
    "first behind the answer to their original. With labels drawn at random the order of the influences agrees with "
    "theirs to {alike:+.2f} (rank correlation). Without the strongest supporters and the last layer fitted anew, the "
    "prediction loses {drop:.3f} nats of log-probability, without random images of the same classes {control:.3f} "
    "({refitted} answers).",
    criterion="At least {threshold:.0%} of the copies must come first, the correlation may be at most {most_alike}, "
    "and the lower bound of the 95% interval of the difference of the losses must be above 0.",
    advice="Do not read the images named as reasons; neighbours in feature space show what the model sees alike.",
    reference="arXiv:2002.08484",
)
def influence(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Planted copies, random labels and refitting: what TracIn over the last layer must pass.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("influence", role=role))
    if not entries:
        return None
    facts = entries[0].evidence.facts_as(InfluenceFacts)
    if not facts.exact:
        return None
    drop, control = (per_example(entries, name).values for name in ("refit_drop", "refit_control"))
    refitted = ~np.isnan(drop)
    share = wilson(facts.copies_first, facts.copies)
    values = template_values(
        share,
        training=facts.training,
        first=facts.copies_first,
        alike=facts.shared_with_random_labels,
        drop=float(drop[refitted].mean()) if refitted.any() else 0.0,
        control=float(control[refitted].mean()) if refitted.any() else 0.0,
        refitted=int(refitted.sum()),
        threshold=LEAST_FIRST,
        most_alike=MOST_ALIKE,
    )
    difference = bootstrap_mean((drop - control)[refitted]) if refitted.any() else None
    passes = share.estimate >= LEAST_FIRST and facts.shared_with_random_labels <= MOST_ALIKE
    verdict: Verdict = "pass" if passes and (difference is None or difference.low > 0) else "warn"
    if verdict == "warn" and passes and difference is not None and difference.high > 0:
        verdict = "inconclusive"
    return CheckResult(verdict, share, cell_keys(entries), values)
