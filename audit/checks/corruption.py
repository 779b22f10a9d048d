"""Does the model stay right when the image is worn by noise, weather or a bad camera?"""

from __future__ import annotations

from audit.checks.conclusion import FEWEST, Conclusion, at_most, values_of
from audit.checks.readings import clean, corrupted, keys
from audit.config import CriteriaConfig
from audit.dossier import Dossier
from audit.registry import check
from audit.statistics import bootstrap_mean


@check(
    section="corruptions",
    title_pass="Common corruptions cost the {role} model {points:.1f} points of accuracy",
    title_fail="Common corruptions cost the {role} model {points:.1f} points of accuracy, more than it may lose",
    title_inconclusive="{n} images are too few to say how much accuracy corruptions cost the {role} model",
    explanation="The mean fall in accuracy over {conditions} kinds of corruption and their severities, on the same "
    "{n} images with and without it.",
    criterion="The upper bound of the 95% interval of the fall is at most {threshold_points:.0f} points.",
    advice="Add the corruptions that hurt most to the training augmentation.",
    command="audit run --preset standard",
    reference="arXiv:1903.12261",
)
def corruption(dossier: Dossier, role: str, criteria: CriteriaConfig) -> Conclusion | None:
    """The mean fall in accuracy under corruption, against `corruption_drop`."""
    worn = corrupted(dossier, role)
    before = clean(dossier, role).at(worn.positions)
    worn = worn.at(before.positions)
    if not worn.values.size:
        return None
    entries = dossier.entries("corruption", role=role)
    fall = bootstrap_mean(before.values - worn.values)
    values = values_of(
        fall,
        points=100 * fall.estimate,
        threshold_points=100 * criteria.corruption_drop,
        conditions=len({entry.task.cell.method for entry in entries}),
    )
    verdict = at_most(fall, criteria.corruption_drop) if fall.n >= FEWEST else "inconclusive"
    return Conclusion(verdict, fall, keys(entries), values)
