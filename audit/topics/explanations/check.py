"""Are the maps of each method that samples as precise as asked?"""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.evidence import Verdict
from audit.core.registry import check
from audit.core.statistics import share_of
from audit.document.display_names import display_name
from audit.planning.settings import ExplanationSettings
from audit.results.check_result import CheckResult, template_values
from audit.results.precision import precise_entries
from audit.results.queries import cell_keys, per_example
from audit.results.run_results import RunResults

MOST_REACHED = 0.9
"""Least share of maps that must be as precise as asked."""


@check(
    section="explanations",
    title_pass="{method} of the {role} model is as precise as asked",
    title_fail="{method} of the {role} model is not as precise as asked on every image",
    explanation="On {reached} of {n} images the error that the method states of its map is at most {precision:.0%} of "
    "the map's size, and the order of its leading parts holds; the error is {error:.0%} on average.",
    criterion="At least {threshold:.0%} of the maps must be as precise as asked (`explanations.precision`).",
    advice="Do not compare near values of this method's maps; more `explanations.settings.{identifier}.{most}` makes "
    "the error smaller.",
)
def precise_explanations(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The share of each method's maps that are as precise as asked; one finding per method that samples.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    methods = dict.fromkeys(entry.task.cell.method for entry in results.entries("explanation", role=role))
    return tuple(result for method in methods if (result := _judge(results, role, method)))


def _judge(results: RunResults, role: str, method: str) -> CheckResult | None:
    entries = precise_entries(results, role, method)
    if not entries:
        return None
    reached = per_example(entries, "reached").values
    settings = ExplanationSettings.of(entries[0].task.cell).method
    share = share_of(reached)
    values = template_values(
        share,
        method=display_name(method),
        identifier=method,
        reached=int(reached.sum()),
        precision=float(settings["precision"]),
        error=float(per_example(entries, "error").values.mean()),
        threshold=MOST_REACHED,
        most="max_steps" if "max_steps" in settings else "samples",
    )
    verdict: Verdict = "pass" if reached.mean() >= MOST_REACHED else "warn"
    return CheckResult(verdict, share, cell_keys(entries), values)
