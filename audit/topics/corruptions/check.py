"""Whether accuracy holds under common corruptions."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import MIN_IMAGES, CheckResult, at_most, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.corruptions.stopping import mean_fall


@check(
    section="corruptions",
    title_pass="Common corruptions cost the {role} model {points:.1f} points of accuracy",
    title_fail="Common corruptions cost the {role} model {points:.1f} points of accuracy, more than it may lose",
    title_inconclusive="{n} images are too few to say how much accuracy corruptions cost the {role} model",
    explanation="The mean fall in accuracy over {conditions} kinds of corruption and their severities, on the same "
    "{n} images with and without it.",
    criterion="The upper bound of the 95% interval of the fall must be at most {threshold_points:.0f} points.",
    advice="Add the corruptions that hurt most to the training augmentation.",
    command="audit run --preset standard",
    reference="arXiv:1903.12261",
)
def corruption(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The mean fall in accuracy under corruption against `corruption_drop` (Hendrycks and Dietterich 2019,
    arXiv:1903.12261).

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    fall = mean_fall(results, role)
    if fall is None:
        return None
    entries = results.entries("corruption", role=role)
    values = template_values(
        fall,
        points=100 * fall.estimate,
        threshold_points=100 * config.criteria.corruption_drop,
        conditions=len({entry.task.cell.method for entry in entries}),
    )
    verdict = at_most(fall, config.criteria.corruption_drop) if fall.n >= MIN_IMAGES else "inconclusive"
    return CheckResult(verdict, fall, cell_keys(entries), values)
