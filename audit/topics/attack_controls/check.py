"""Whether the attacks pass their sanity checks."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import only_measured
from audit.results.run_results import RunResults
from audit.topics.model_sanity.check import inconclusive_if_flagged


@check(
    section="robustness",
    title_pass="The attacks on the {role} model behave as attacks must",
    title_fail="The attacks on the {role} model fail {count} of their controls",
    title_inconclusive="The attacks on the {role} model fail {count} of their controls",
    explanation="On {n} images: PGD breaks what noise and a single step break, breaks more as eps grows and everything "
    "once eps covers the box, and twice the steps and restarts of the {battery} battery change nothing.",
    explanation_inconclusive="{reasons}",
    criterion="At most 1% of the images, or one, may go against each order, twice the effort may gain 0.5%, and 5% may "
    "stay unbroken in the whole box (Carlini et al. 2019).",
    advice="Read the robust accuracy of this model as not yet measured: attack it with more steps, more restarts and "
    "attacks that see no gradient.",
    command="audit run --preset full",
    reference="arXiv:1902.06705",
)
def attack_controls(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The sanity checks of the battery; one that fails makes the robust accuracy inconclusive.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("attack-controls", role=role))
    return inconclusive_if_flagged(entries, battery=entries[0].task.cell.method) if entries else None
