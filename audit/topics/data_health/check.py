"""Whether the test set can be trusted, and what of the data is to be mended."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.note import Note, note
from audit.core.registry import check
from audit.core.statistics import Interval
from audit.data.health.label_noise import can_tell
from audit.results.check_result import CheckResult, at_most, template_values
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults
from audit.topics.data_health import DataHealthConfig
from audit.topics.data_health.facts import HealthFacts, LabelFacts, as_interval
from audit.topics.data_health.issues import health_of
from audit.topics.data_health.section import LeakRow, leak_row, leaked_share
from audit.topics.data_health.words import PARTS

_TABLE = "data-issues.csv in the run folder lists them."


@check(
    section="data_health",
    title_pass="No test image is a copy of a training image",
    title_fail="{leaked} of {n} test images are copies of training images ({estimate:.2%})",
    explanation="All {n} test images were compared with all {trained} training images, mirrored, turned, scaled and "
    "compressed copies included.{without}",
    criterion="At most {threshold:.1%} of the test images may be copies.",
    advice="Remove them from the training part or from the test part, and train and measure again. " + _TABLE,
    priority=14,
)
def test_set_leak(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The share of test images that are trained on too, against `data_health.leaked`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    facts = _facts(results, role)
    if facts is None or len(facts.parts) < 2:
        return None
    entries = only_measured(results.entries("data-health", role=role))
    share, threshold = leaked_share(facts), config.table(DataHealthConfig).leaked
    verdict: Verdict = "fail" if share.estimate > threshold else "warn" if facts.leaked else "pass"
    row = leak_row(results, role, entries[0].evidence.arrays["leaked"], facts)
    values = template_values(
        share,
        threshold=threshold,
        leaked=facts.leaked,
        trained=facts.parts[0].images,
        without=_without(row) if facts.leaked else "",
    )
    return CheckResult(verdict, share, cell_keys(entries), values)


@check(
    section="data_health",
    title_pass="The {part} labels hold: about {estimate:.1%} are likely wrong",
    title_fail="About {wrong} of {n} {part} labels are likely wrong ({estimate:.1%})",
    title_inconclusive="Whether more than {threshold:.1%} of the {n} {part} labels are wrong cannot be told",
    title_informative="The {n} {part} labels were not judged",
    explanation="A model of label noise was fitted to the predictions of {judge} on the {n} {part} images. It tells "
    "mistaken labels from classes that look alike.{doubt}",
    criterion="The share of wrong labels must be at most {threshold:.1%} by its whole 95% interval. Where the whole "
    "interval is above, test labels fail and training labels warn; where it contains the limit, or the predictions "
    "agree with fewer than half of the labels, it cannot be told.",
    advice="Look at the images named below, the likeliest first, and correct their labels. " + _TABLE,
    advice_inconclusive="{remedy}",
    advice_informative="{remedy}",
    reference="arXiv:1911.00068",
    version="2",
)
def label_errors(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The estimated share of wrong labels in each part, against `data_health.label_errors`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    facts, threshold = _facts(results, role), config.table(DataHealthConfig).label_errors
    judged = []
    if facts is not None:
        keys = cell_keys(results.entries("data-health", role=role))
        judge = note("health_small_classifier", "a small classifier that had not seen them")
        judged += [(part.split, part.wrong, part.agreement, keys, judge) for part in facts.parts if part.wrong]
    for entry in only_measured(results.entries("label-errors", role=role)):
        judge = note("health_the_model", "the model under test, which had not seen them")
        labels = entry.evidence.facts_as(LabelFacts)
        judged.append(("test", labels.wrong, labels.agreement, cell_keys([entry]), judge))
    concluded = []
    for split, wrong, agreement, keys, judge in judged:
        share, told = as_interval(wrong), can_tell(agreement, wrong.high)
        verdict = _label_verdict(share, threshold, split, told=told)
        doubt, remedy = (
            _doubt(share, agreement, split, told=told) if verdict in ("inconclusive", "informative") else ("", "")
        )
        values = template_values(
            share,
            part=PARTS[split],
            threshold=threshold,
            wrong=round(share.estimate * share.n),
            judge=judge,
            doubt=doubt,
            remedy=remedy,
        )
        concluded.append(CheckResult(verdict, share if told else None, keys, values))
    return tuple(concluded)


def _label_verdict(share: Interval, threshold: float, split: str, *, told: bool) -> Verdict:
    """The verdict of the bounds. Training labels only warn, and say nothing where the small classifier cannot tell:
    that is no lack of evidence on the model."""
    if not told:
        return "inconclusive" if split == "test" else "informative"
    verdict = at_most(share, threshold)
    return "warn" if verdict == "fail" and split == "train" else verdict


def _doubt(share: Interval, agreement: float | None, split: str, *, told: bool) -> tuple[Note, Note]:
    """Why it cannot be told, and what to do."""
    if told:
        return note(
            "health_labels_wide",
            " The 95% interval, {low} to {high}, contains the limit.",
            low=f"{share.low:.1%}",
            high=f"{share.high:.1%}",
        ), note(
            "health_labels_look",
            "Look at the images named below, the likeliest first: some may be mistaken. More images narrow the "
            "interval. data-issues.csv in the run folder lists them.",
        )
    remedy = note(
        "health_labels_model_first",
        "Find out first why the model is wrong so often: other preprocessing, another order of classes, other data.",
    )
    if split == "train":
        remedy = note(
            "health_labels_stronger",
            "To judge these labels, train a net by cross-validation and look at images where it is surest of another "
            "class.",
        )
    if agreement is None:
        return note(
            "health_labels_bound",
            " The fit ends at the largest share it can express: the predictions are wrong too often to tell a wrong "
            "label from an error of their own.",
        ), remedy
    return note(
        "health_labels_poor_judge",
        " These predictions agree with {agreement} of the labels: they are wrong too often to tell a wrong label from "
        "an error of their own.",
        agreement=f"{agreement:.1%}",
    ), remedy


@check(
    section="data_health",
    title_pass="No image is blank",
    title_fail="{blank} of {n} images are blank",
    explanation="An image is blank when all its pixels are of one colour, up to the rounding of 8 bits.",
    criterion="None may be blank; more than {threshold:.1%} fail.",
    advice="Replace or remove them, and look how they came about. " + _TABLE,
)
def blank_images(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The number of blank images, against `data_health.blank`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    facts = _facts(results, role)
    if facts is None:
        return None
    blank, total = sum(part.blank for part in facts.parts), sum(part.images for part in facts.parts)
    threshold = config.table(DataHealthConfig).blank
    verdict: Verdict = "fail" if blank > threshold * total else "warn" if blank else "pass"
    values = {"n": total, "blank": blank, "threshold": threshold}
    return CheckResult(verdict, None, cell_keys(results.entries("data-health", role=role)), values)


@check(
    section="data_health",
    title_pass="No copies have different labels",
    title_fail="{pairs} pairs of copies have different labels",
    explanation="Copies were looked for within and between the parts, mirrored, turned, scaled and compressed ones "
    "included. Within a part there are {duplicates}.",
    criterion="Copies must have one label.",
    advice="Decide which label is right. " + _TABLE,
)
def conflicting_labels(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The number of copies with different labels.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run.
    """
    facts = _facts(results, role)
    if facts is None or not facts.labelled:
        return None
    pairs = sum(issue.issue == "conflict" for issue in facts.issues)
    values = {
        "n": sum(part.images for part in facts.parts),
        "pairs": pairs,
        "duplicates": sum(part.duplicated for part in facts.parts),
    }
    keys = cell_keys(results.entries("data-health", role=role))
    return CheckResult("warn" if pairs else "pass", None, keys, values)


def _facts(results: RunResults, role: str) -> HealthFacts | None:
    """What was measured of the data; None for any but the first model, as the data is the same for all."""
    health = health_of(results) if results.entries("data-health", role=role) else None
    return None if health is None else health[1]


def _without(row: LeakRow) -> Note | str:
    """The figures without the copies, as a sentence."""
    if row.clean is None or row.clean_without is None:
        return ""
    if row.robust is None or row.robust_without is None:
        return note(
            "health_without",
            " Without them clean accuracy is {without} instead of {clean}.",
            clean=f"{row.clean.estimate:.1%}",
            without=f"{row.clean_without.estimate:.1%}",
        )
    return note(
        "health_without_robust",
        " Without them clean accuracy is {without} instead of {clean}, and robust accuracy {robust_without} instead of "
        "{robust}.",
        clean=f"{row.clean.estimate:.1%}",
        without=f"{row.clean_without.estimate:.1%}",
        robust=f"{row.robust.estimate:.1%}",
        robust_without=f"{row.robust_without.estimate:.1%}",
    )
