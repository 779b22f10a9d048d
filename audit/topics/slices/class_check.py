"""Whether the model misses most images of a class."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.note import note
from audit.core.registry import check
from audit.core.statistics import LEVEL, clopper_pearson
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.slices.described import STUDIES, described_images

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
    measured = described.outcomes["clean"]
    right, labels = measured.values > 0, described.labels[measured.positions]
    present = np.unique(labels)
    level = 1 - (1 - LEVEL) / max(1, len(present))
    found = {
        int(label): clopper_pearson(int(right[labels == label].sum()), int((labels == label).sum()), level=level)
        for label in present
    }
    missed = sorted((label for label in found if found[label].high < 0.5), key=lambda label: found[label].estimate)
    if not missed:
        return None
    shown = [
        note(
            "missed_class",
            "{name} ({found} of {n} found).",
            name=described.classes[label],
            found=round(found[label].estimate * found[label].n),
            n=found[label].n,
        )
        for label in missed[:_SHOWN]
    ]
    worst = found[missed[0]]
    values = template_values(worst, label=described.classes[missed[0]], classes=len(present), missed=shown)
    keys = cell_keys((*described.entries, *results.entries(STUDIES["clean"], role=role)))
    return CheckResult("warn", worst, keys, values)
