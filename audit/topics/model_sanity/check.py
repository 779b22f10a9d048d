"""Whether the model is a fixed function of each image with usable gradients, or masks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audit.config import RunConfig
from audit.core.evidence import CheckValue
from audit.core.note import Note
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.certification.proven import settled_by_bounds
from audit.topics.model_sanity.pooled_flags import sentences


@check(
    section="robustness",
    title_pass="Nothing about the {role} model blinds an attack: its outputs and gradients can be trusted",
    title_fail="The {role} model hides from attacks: {count} reasons to doubt its robust accuracy",
    title_inconclusive="The {role} model hides from attacks: {count} reasons to doubt its robust accuracy",
    title_informative="Gradients of the {role} model mislead attacks in {count} ways, but proofs settle its robust "
    "accuracy",
    explanation="On {n} images: outputs finite and the same at every call and in every batch, gradients neither zero "
    "nor NaN and equal to finite differences, no plateaus, no state changed by a forward pass.",
    explanation_inconclusive="{reasons}",
    explanation_informative="{reasons} At the eps of the verdict so many images are proven robust, or broken, that no "
    "attack could change it.",
    criterion="None of the signs of Athalye et al. 2018 (arXiv:1802.00420) and Carlini et al. 2019 (arXiv:1902.06705) "
    "may be there.",
    advice="Audit the model without the layer that rounds, randomises or saturates, or attack it with score-based "
    "attacks; until then its robust accuracy says little.",
    command="audit run --battery full",
    reference="arXiv:1802.00420",
)
def gradient_masking(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Signs of gradient masking and of a model that cannot be attacked as it is (arXiv:1802.00420, arXiv:1902.06705).

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("model-sanity", role=role))
    if not entries:
        return None
    result = inconclusive_if_flagged(entries)
    if result.verdict == "inconclusive" and settled_by_bounds(results, role, config.criteria.robust_accuracy):
        return replace(result, verdict="informative")
    return result


def inconclusive_if_flagged(entries: Sequence[TaskResult], **values: CheckValue) -> CheckResult:
    """Inconclusive where the entries raise a red flag, else a pass.

    Args:
        entries: Cells with `SuspicionFacts`, at least one.
        values: What the templates of the check are filled with besides `n`, `count` and `reasons`.
    """
    reasons = sentences(entries)
    n = sum(len(entry.task.examples) for entry in entries)
    values = {"n": n, "count": len(reasons), "reasons": list(reasons), **values}
    return CheckResult("inconclusive" if reasons else "pass", None, cell_keys(entries), values)


def suspicious_reasons(results: RunResults, role: str) -> tuple[Note, ...]:
    """Each reason to doubt attacks on a model, once: from its own sanity checks and those of the attacks.

    Args:
        results: The run.
        role: Role of the model.
    """
    studies = ("model-sanity", "attack-controls")
    groups = (only_measured(results.entries(study, role=role)) for study in studies)
    return tuple(dict.fromkeys(sentence for group in groups for sentence in sentences(group)))
