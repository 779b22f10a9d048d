"""Whether an explanation lies on the object, where the data has masks."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.registry import check
from audit.core.statistics import bootstrap_mean
from audit.document.display_names import display_name
from audit.results.check_result import CheckResult, above_zero, cap_at_warning, template_values
from audit.results.queries import cell_keys, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult


@check(
    section="explanations",
    title_pass="{method} lies on the marked objects for the {role} model",
    title_fail="{method} lies elsewhere than on the marked objects for the {role} model",
    title_inconclusive="Whether {method} lies on the marked objects for the {role} model is not told by {n} images",
    explanation="Masks say where the object lies. {mass:.0%} of {method}'s positive attribution falls inside, and the "
    "masks cover {area:.0%} of the images: {estimate:+.3f} (95% interval {low:+.3f} to {high:+.3f}) over chance.",
    criterion="The lower bound of the 95% interval of the share inside, less the masks' area, must be above 0.",
    advice="Look at the maps: the model may rest on the background, or the method may not show what it rests on; "
    "deletion tells which.",
    reference="arXiv:2003.07258",
)
def localisation(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The share of each method's positive attribution inside the masks, over chance; one finding per method.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = results.entries("localisation", role=role)
    return tuple(
        _judge(at.method, only_measured(group)) for at, group in group_by_condition(entries) if only_measured(group)
    )


def _judge(method: str, entries: tuple[TaskResult, ...]) -> CheckResult:
    inside = np.asarray(per_example(entries, "relevance_mass").values, np.float64)
    area = np.asarray(per_example(entries, "mask_share").values, np.float64)
    masked = ~np.isnan(inside - area)
    inside, area = (inside[masked], area[masked]) if masked.any() else (np.zeros(1), np.zeros(1))
    advantage = bootstrap_mean(inside - area)
    values = template_values(advantage, method=display_name(method), identifier=method)
    return CheckResult(
        cap_at_warning(advantage, above_zero(advantage)),
        advantage,
        cell_keys(entries),
        {**values, "mass": float(inside.mean()), "area": float(area.mean()), "n": int(masked.sum())},
        unit="share",
    )
