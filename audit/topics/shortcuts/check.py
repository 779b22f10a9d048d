"""Whether one region of the image decides a class on its own."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults
from audit.topics.shortcuts.facts import ShortcutsFacts


@check(
    section="explanations",
    title_pass="No single place was found to decide a class for the {role} model",
    title_fail="One place decides a class for the {role} model: {classes}",
    explanation="Attributions over {n} images were searched for places that a class rests on ({tried} suspects); a "
    "suspect is confirmed by exchanging the place between images and seeing the predictions follow.",
    criterion="No suspect may be confirmed.",
    advice="Look at the training images of these classes at this place: a mark, border or watermark that goes with the "
    "label must be removed or spread over all classes.",
)
def shortcuts(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The shortcuts that were confirmed; finding none does not prove that there are none.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("shortcuts", role=role))
    if not entries:
        return None
    facts = [entry.evidence.facts_as(ShortcutsFacts) for entry in entries]
    classes = dict.fromkeys(shortcut.label for cell in facts for shortcut in cell.shortcuts)
    values: dict[str, str | float] = {
        "n": sum(len(entry.task.examples) for entry in entries),
        "tried": sum(cell.tried for cell in facts),
        "classes": ", ".join(classes),
    }
    return CheckResult("fail" if classes else "pass", None, cell_keys(entries), values)
