"""Whether the model misses most images of a class."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.note import note
from audit.core.registry import check
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.slices.described import STUDIES, described_images
from audit.topics.slices.groups import class_rates

_SHOWN = 6


@check(
    section="slices",
    priority=21,
    title_pass="The {role} model finds every class",
    title_fail="The {role} model is right on only {estimate:.0%} of the images of {label}",
    explanation="Of {classes} classes these are missed more often than found, by intervals that hold for all classes "
    "together with 95%: {missed}",
    criterion="Of no class may the whole interval of the share that is found lie below one half.",
    advice="Look at what its images are taken for in the section Accuracy; train on more images of it, or do not use "
    "the model for it.",
)
def missed_class(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """A warning where a class is surely missed more often than found; nothing where none is.

    Args:
        results: The run.
        role: Role of the model.
        config: Unused: the intervals decide.
    """
    described = described_images(results, role)
    if described is None or "clean" not in described.outcomes or not described.classes or not results.labelled:
        return None
    rates = class_rates(described, "clean")
    found = rates.together if rates else {}
    missed = sorted((name for name in found if found[name].high < 0.5), key=lambda name: found[name].estimate)
    if not missed:
        return None
    shown = [
        note(
            "missed_class",
            "{name} ({found} of {n} found).",
            name=name,
            found=round(found[name].estimate * found[name].n),
            n=found[name].n,
        )
        for name in missed[:_SHOWN]
    ]
    worst = found[missed[0]]
    values = template_values(worst, label=missed[0], classes=len(found), missed=shown)
    keys = cell_keys((*described.entries, *results.entries(STUDIES["clean"], role=role)))
    return CheckResult("warn", worst, keys, values)
