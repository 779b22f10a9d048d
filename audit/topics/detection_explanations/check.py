"""Whether the map of a found box beats an order of pixels at random."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.core.statistics import bootstrap_mean
from audit.document.display_names import display_name
from audit.results.check_result import CheckResult, above_zero, cap_at_warning, template_values
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults


@check(
    section="detection_explanations",
    title_pass="{method} shows what the {role} detector finds boxes by, better than chance",
    title_fail="{method} does no better than chance on boxes of the {role} detector",
    title_inconclusive="{n} boxes do not tell whether {method} does better than chance on the {role} detector",
    explanation="How much of {n} boxes is still found as pixels are deleted in the order of the map, against a random "
    "order: {estimate:.3f} less, averaged over the deletion.",
    criterion="The lower bound of the 95% interval must be above 0.",
    advice="Do not read these maps.",
    advice_inconclusive="Explain more images: `detection_explanations.examples`.",
    reference="arXiv:2006.03204",
)
def box_deletion(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The deletion area of random orders less that of each method's, a box at a time.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run.
    """
    chance = results.array("box-controls", "deletion_random", role=role)
    answers: list[CheckResult] = []
    for method in dict.fromkeys(entry.task.cell.method for entry in results.entries("box-explanation", role=role)):
        entries = only_measured(results.entries("box-explanation", role=role, method=method))
        areas = [area for entry in entries for area in entry.evidence.arrays["deletion"]]
        if chance is None or not areas or len(areas) != len(chance):
            continue
        gain = bootstrap_mean(chance - areas)
        values = template_values(gain, method=display_name(method))
        answers.append(
            CheckResult(cap_at_warning(gain, above_zero(gain)), gain, cell_keys(entries), values, unit="similarity")
        )
    return tuple(answers)
