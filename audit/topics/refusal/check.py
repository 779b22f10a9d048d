"""Whether refusing the least sure predictions keeps errors low, and whether sets of classes hold what they promise."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.registry import check
from audit.core.statistics import Interval, share_of
from audit.document.display_names import display_name
from audit.metrics.selective import fewest_for_guarantee, risk_at_coverage
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.refusal.config import RefusalConfig
from audit.topics.refusal.measured import (
    ConformalOutcome,
    Predictions,
    clean_predictions,
    conformal_outcomes,
    shifted_calibration,
)
from audit.topics.refusal.thresholds import accepted_at

MIN_JUDGED = 100
"""Least images in the half that is judged."""
JUDGED_SETS = "APS"
"""The method of sets whose coverage the check reads; the others are in the table."""


@check(
    section="refusal",
    priority=22,
    title_pass="Refusing the least sure {refused:.0%} of predictions keeps the {role} model's errors at {estimate:.1%}",
    title_fail="The {role} model cannot keep its errors at {risk:.0%} without refusing more than {most:.0%} of images",
    title_inconclusive="{n} images are too few to say when the {role} model should refuse",
    explanation="On one half of the images the confidence was sought from which errors are at most {risk:.0%}, with "
    "95% probability (Learn then Test). It is {threshold:.3f}, and accepts {kept:.1%} of the other {n} "
    "images; of those {estimate:.1%} are wrong.",
    explanation_warn="Of the surest {least:.0%} of {n} images {estimate:.1%} are wrong (95% interval {low:.1%} to "
    "{high:.1%}), where at most {risk:.0%} may be.",
    explanation_inconclusive="On one half of the images a confidence is sought from which errors are at most "
    "{risk:.0%}, with 95% probability (Learn then Test), and that accepts at least {least:.0%} of the other half. It "
    "takes {fewest:.0f} images in each half of a model without errors; here none can be given. Of the surest "
    "{least:.0%} of all {n} images {estimate:.1%} are wrong (95% interval {low:.1%} to {high:.1%}).",
    criterion="Such a confidence must exist and accept at least {least:.0%} of images; it fails where the lower bound "
    "of the 95% interval of the errors of the surest {least:.0%} is above {risk:.0%}.",
    advice="Train further or on more images; fit a temperature with `audit calibrate`; or do not let the model decide "
    "alone.",
    advice_inconclusive="Give more test images.",
    reference="arXiv:2110.01052",
    version="2",
)
def selective_risk(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The share of predictions accepted at a guaranteed risk, against `refusal.coverage`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the risk and the threshold.
    """
    parts, table = clean_predictions(results, role, config.seed), config.table(RefusalConfig)
    if parts is None:
        return None
    keys = cell_keys(results.entries("accuracy", role=role))
    told = {"risk": table.risk, "least": table.coverage, "most": 1 - table.coverage}
    accepted = accepted_at(*parts, table.risk) if len(parts[1].labels) >= MIN_JUDGED else None
    if accepted is None or accepted.risk is None or accepted.accepted.estimate < table.coverage:
        surest = _errors_of_surest(parts, table.coverage)
        fewest = max(MIN_JUDGED, fewest_for_guarantee(table.risk))
        verdict: Verdict = "warn" if surest.n >= MIN_JUDGED and surest.low > table.risk else "inconclusive"
        values = template_values(surest, **told, fewest=fewest) | {"n": sum(len(part.labels) for part in parts)}
        return CheckResult(verdict, surest, keys, values)
    values = template_values(
        accepted.risk,
        kept=accepted.accepted.estimate,
        refused=1 - accepted.accepted.estimate,
        threshold=accepted.threshold.confidence,
    )
    return CheckResult("pass", accepted.risk, keys, {**values, **told, "n": len(parts[1].labels)})


def _errors_of_surest(parts: tuple[Predictions, Predictions], share: float) -> Interval:
    """The share of errors of the surest images of both halves."""
    confidence, correct = (np.concatenate(of) for of in zip(*((p.confidence, p.correct) for p in parts), strict=True))
    return risk_at_coverage(confidence, correct, share)


@check(
    section="refusal",
    priority=50,
    title_pass="Sets of classes of the {role} model hold the right one as often as asked, on corrupted images too",
    title_fail="Sets of classes of the {role} model that should hold the right one in {asked:.0%} hold it in "
    "{estimate:.0%} under {corruption}",
    title_inconclusive="{n} images are too few to say whether sets of classes of the {role} model hold the right one",
    explanation="Conformal sets ({method}), calibrated on one half of the clean images, hold the right class on "
    "{clean:.1%} of the other half, in {clean_size:.2f} classes on average. The promise is for images like those it "
    "was calibrated on; under {corruption}, severity {severity:.0f}, they hold it on {estimate:.1%} of {n} images.",
    explanation_inconclusive="Sets are calibrated on one half of the images and judged on the other, corrupted too; "
    "here that leaves {n}.",
    criterion="On no corruption may the upper bound of the 95% interval of the coverage be below {asked:.0%}.",
    advice="Do not rely on the promise where images may be worn: calibrate on such images, or train on them.",
    advice_inconclusive="Corrupt more images (`refusal.shifted`).",
    reference="arXiv:2006.02544",
)
def conformal_coverage(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The coverage of conformal sets where images are corrupted, against what was asked.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which names the coverage.
    """
    error = config.table(RefusalConfig).error
    outcomes = [o for o in conformal_outcomes(results, role, config.seed, error) if o.method == JUDGED_SETS]
    shifted = [o for o in outcomes if o.severity and len(o.covered)]
    if not shifted:
        return None
    keys = cell_keys((*results.entries("accuracy", role=role), *results.entries("refusal", role=role)))
    worst = min(shifted, key=lambda o: float(o.covered.mean()))
    share, clean = share_of(worst.covered), outcomes[0]
    if min(len(clean.covered), 2 * len(worst.covered)) < MIN_JUDGED:
        return CheckResult("inconclusive", None, keys, {"n": len(worst.covered), "asked": 1 - error})
    values = template_values(
        share,
        asked=1 - error,
        **_named(worst.images),
        severity=worst.severity,
        method=worst.method,
        clean=float(clean.covered.mean()),
        clean_size=float(clean.sizes.mean()),
    )
    return CheckResult("warn" if _below(shifted, 1 - error) else "pass", share, keys, values)


def _named(corruption: str) -> dict[str, str]:
    """A corruption's name as it stands in a sentence, and the name by which other languages look it up."""
    name = display_name(corruption)
    return {"corruption": name if name[1:2].isupper() else name[:1].lower() + name[1:], "corruption_name": corruption}


def _below(outcomes: list[ConformalOutcome], asked: float) -> bool:
    return any(share_of(outcome.covered).high < asked for outcome in outcomes)


@check(
    section="refusal",
    priority=55,
    title_pass="The {role} model's confidence can be believed on corrupted images, too",
    title_fail="Under {corruption} the {role} model's confidence is off by {estimate:.0%} on average",
    title_inconclusive="Whether the {role} model's confidence can be believed on corrupted images cannot be told from "
    "{n} images",
    explanation="Expected calibration error by corruption and severity, on {n} images each. The largest, under "
    "{corruption} at severity {severity:.0f}, is {estimate:.1%} (95% interval {low:.1%} to {high:.1%}).",
    criterion="Under every corruption the upper bound of the 95% interval must be at most {threshold:.0%}; it fails "
    "where a lower bound is above.",
    advice="Do not refuse by confidence alone where images may be worn; train on such images, or detect them first.",
    advice_inconclusive="Corrupt more images (`refusal.shifted`).",
    reference="arXiv:1906.02530",
    version="2",
)
def calibration_under_corruption(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The largest calibration error under a corruption, against twice `calibration_error`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    threshold = 2 * config.criteria.calibration_error
    errors: list[tuple[str, int, Interval]] = list(shifted_calibration(results, role))
    if not errors:
        return None
    fails = any(interval.low > threshold for _, _, interval in errors)
    name, severity, worst = max(errors, key=lambda item: item[2].low if fails else item[2].high)
    keys = cell_keys(results.entries("refusal", role=role))
    values = template_values(worst, **_named(name), severity=severity, threshold=threshold)
    if worst.n < MIN_JUDGED:
        return CheckResult("inconclusive", worst, keys, values)
    return CheckResult("warn" if fails else "pass" if worst.high <= threshold else "inconclusive", worst, keys, values)
