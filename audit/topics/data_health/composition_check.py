"""Whether the make-up of the data misleads: kinds of file that tell the class, shift between the parts, imbalance."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.evidence import CheckValue, Verdict
from audit.core.registry import check
from audit.core.statistics import Interval
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults
from audit.topics.data_health import DataHealthConfig
from audit.topics.data_health.facts import HealthFacts
from audit.topics.data_health.words import PARTS, PROPERTIES

_P_VALUE = 0.01
_IMBALANCED = 1.5
"""Images of the largest class over those of the smallest from which classes count as imbalanced: the lowest ratio of
the imbalanced data sets that KEEL collects (https://sci2s.ugr.es/keel/imbalanced.php, Fernandez et al. 2008)."""


@check(
    section="data_health",
    title_pass="Neither size nor colour of an image tells its class",
    title_fail="The {property} of an image tells its class: {guessed:.0%} are guessed by it in the {part} part, "
    "{anyway:.0%} without",
    explanation="For each part, the class of an image was guessed by its size, its proportions and whether it has "
    "colour. The strongest: {property}, p = {p_value:.3f} by permutation; {value} goes with {label}.",
    explanation_pass="For each part, the class of an image was guessed by its size, its proportions and whether it has "
    "colour.",
    criterion="It may help to guess at most {threshold:.0%} of the images more, or by chance (p of at least 0.01).",
    advice="A net can learn this instead of what the images show: bring the images of all classes to one size and "
    "colour before they are stored, or collect those that are missing.",
)
def file_kinds(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """How well the kind of an image file tells its class, against `data_health.guessed`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    facts = _facts(results, role)
    if facts is None or not facts.labelled:
        return None
    threshold = config.table(DataHealthConfig).guessed
    told = [k for k in facts.kinds if k.p_value < _P_VALUE and k.guessed - k.anyway > threshold]
    values: dict[str, CheckValue] = {"threshold": threshold, "n": sum(part.images for part in facts.parts)}
    if told:
        worst = max(told, key=lambda kind: kind.guessed - kind.anyway)
        values |= {
            "property": PROPERTIES[worst.name],
            "part": PARTS[worst.split],
            "guessed": worst.guessed,
            "anyway": worst.anyway,
            "p_value": worst.p_value,
            "value": worst.value,
            "label": worst.label,
        }
    return CheckResult("warn" if told else "pass", None, _keys(results, role), values)


@check(
    section="data_health",
    title_pass="Test images look like training images",
    title_fail="Test images differ from training images: they are told apart with an AUC of {estimate:.2f}",
    explanation="A classifier was asked to tell {n} images of the two parts apart, by brightness, contrast, colour, "
    "sharpness and what they show, each image by a fit without it (AUC {estimate:.2f}, 0.5 by chance; p = "
    "{p_value:.3f} by permutation).",
    criterion="The AUC must be at most {threshold:.2f}, or one by chance (p of at least 0.01).",
    advice="Find out how the two parts were collected. If the test part is what the model will meet, train on images "
    "like it; if not, draw both parts anew from one source.",
    reference="arXiv:1610.06545",
)
def train_test_shift(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """How well test images are told from training images, against `data_health.shift`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    facts = _facts(results, role)
    if facts is None or facts.auc is None or facts.auc_interval is None:
        return None
    threshold = config.table(DataHealthConfig).shift
    verdict: Verdict = "warn" if facts.auc > threshold and facts.p_value < _P_VALUE else "pass"
    interval = Interval(facts.auc, *facts.auc_interval, facts.compared, "Hanley-McNeil 95%")
    values = template_values(interval, threshold=threshold, p_value=facts.p_value)
    return CheckResult(verdict, interval, _keys(results, role), values, unit="AUC")


@check(
    section="data_health",
    title_pass="Every class has images, the largest less than {imbalanced} times those of the smallest",
    title_informative="The largest class has {times:.1f} times the images of the smallest ({part} part)",
    title_fail="A class has no image in the {part} part: {label}",
    explanation="The {part} part has {most} images of {largest} and {least} of {label}. The figures of a class with "
    "few images have wide intervals, and overall accuracy is mostly that of the large ones.",
    explanation_pass="The smallest class of the {part} part has {least} images, the largest {most}.",
    criterion="Every class must have an image in either part.",
    advice="Add images of it, or leave the class out.",
    advice_informative="Add images of {label}, or read its figures by their intervals.",
    version="2",
)
def class_balance(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """How unevenly the classes are filled, in the part where that is worst.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run.
    """
    facts = _facts(results, role)
    parts = [part for part in facts.parts if len(part.counts) > 1 and any(part.counts)] if facts else []
    if facts is None or not parts:
        return None
    worst = max(parts, key=lambda part: max(part.counts) / max(min(part.counts), 0.5))
    least, most = min(worst.counts), max(worst.counts)
    values: dict[str, CheckValue] = {
        "part": PARTS[worst.split],
        "times": most / max(least, 1),
        "imbalanced": _IMBALANCED,
        "least": least,
        "most": most,
        "label": facts.classes[worst.counts.index(least)],
        "largest": facts.classes[worst.counts.index(most)],
        "n": worst.images,
    }
    balanced: Verdict = "pass" if most < _IMBALANCED * least else "informative"
    return CheckResult(balanced if least else "warn", None, _keys(results, role), values)


def _facts(results: RunResults, role: str) -> HealthFacts | None:
    entries = only_measured(results.entries("data-health", role=role))
    return entries[0].evidence.facts_as(HealthFacts) if entries else None


def _keys(results: RunResults, role: str) -> tuple[str, ...]:
    return cell_keys(results.entries("data-health", role=role))
