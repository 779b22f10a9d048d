"""Whether the model stays right under attack within a norm ball."""

from __future__ import annotations

from audit.adversarial.row_flags import row_flags
from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.note import Note, note
from audit.core.registry import check
from audit.core.threat_format import format_threat
from audit.results.check_result import CheckResult, at_least, template_values
from audit.results.queries import Condition, cell_keys, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult
from audit.results.stopping import share_of_entries
from audit.topics.certification.proven import proven_by_bounds
from audit.topics.model_sanity.check import suspicious_reasons
from audit.topics.robustness.facts import RobustnessFacts


@check(
    section="robustness",
    title_pass="Under attack within {threat} the {role} model still gets {estimate:.1%} of images right",
    title_fail="Under attack within {threat} the {role} model gets only {estimate:.1%} of images right",
    title_inconclusive="The robust accuracy of the {role} model within {threat} cannot be trusted yet ({estimate:.1%})",
    explanation="The share of {n} images still classified right under every attack of the {battery} battery. It is "
    "an upper bound: a stronger attack can only lower it.",
    explanation_inconclusive="{reasons}",
    criterion="The lower bound of the 95% interval must be at least {threshold:.0%}, with no sign of weak attacks.",
    advice="Harden the model by adversarial training within the same threat model, then audit it again.",
    advice_inconclusive="Attack harder and on more images before believing this number.",
    command="audit harden --preset standard",
    command_inconclusive="audit run --preset full",
)
def robust_accuracy(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The share still right under every attack, against `robust_accuracy`; one finding per threat model.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    groups = group_by_condition(results.entries("robustness", role=role))
    model_reasons = suspicious_reasons(results, role)
    return tuple(
        _judge(results, at, only_measured(entries), config, model_reasons)
        for at, entries in groups
        if only_measured(entries)
    )


def _judge(
    results: RunResults,
    at: Condition,
    entries: tuple[TaskResult, ...],
    config: RunConfig,
    model_reasons: tuple[Note, ...],
) -> CheckResult:
    share = share_of_entries(results, entries, per_example(entries, "robust").values)
    proven = proven_by_bounds(results, entries[0].task.role, at.norm, at.eps)
    reasons = tuple(dict.fromkeys((*inconclusive_reasons(entries), *model_reasons)))
    verdict: Verdict = at_least(share, config.criteria.robust_accuracy)
    if verdict == "pass" and proven is not None and proven.low >= config.criteria.robust_accuracy:
        reasons = ()  # However weak the attacks, so many images are proven.
    if reasons and verdict == "pass":
        verdict = "inconclusive"
    weak_evidence = len(reasons)
    if not reasons and verdict == "inconclusive":
        too_few = note(
            "interval_holds",
            "The {level} interval {low} to {high} holds the threshold: too few images.",
            level="95%",
            low=f"{share.low:.1%}",
            high=f"{share.high:.1%}",
        )
        reasons = (too_few,)
    values = template_values(
        share,
        threshold=config.criteria.robust_accuracy,
        threat=format_threat(at.norm, at.eps),
        battery=at.method,
        reasons=list(reasons),
        doubts=weak_evidence,
    )
    return CheckResult(verdict, share, cell_keys(entries), values)


def inconclusive_reasons(entries: tuple[TaskResult, ...]) -> tuple[Note, ...]:
    """Why the evidence is weak, each reason once; empty when it is not.

    What the attacks did is judged over the images of all cells together.

    Args:
        entries: Cells of the robustness study, of one model, battery and threat model.
    """
    cells = [(entry.evidence.facts_as(RobustnessFacts), len(entry.task.examples)) for entry in entries]
    alone = [reason for facts, _ in cells for reason in facts.inconclusive]
    flags = row_flags([(facts.rows, images) for facts, images in cells if not facts.rows_judged])
    return tuple(dict.fromkeys((*alone, *(flag.sentence for flag in flags))))
