"""Is the model right often enough on images as they are?"""

from __future__ import annotations

from audit.checks.conclusion import Conclusion, at_least, values_of
from audit.checks.readings import clean, keys
from audit.config import CriteriaConfig
from audit.dossier import Dossier
from audit.registry import check
from audit.statistics import share_of


@check(
    section="accuracy",
    title_pass="The {role} model classifies {estimate:.1%} of clean images right",
    title_fail="The {role} model classifies only {estimate:.1%} of clean images right",
    title_inconclusive="{n} images are too few to say whether the {role} model reaches {threshold:.0%} clean accuracy",
    explanation="Measured on {n} test images as they are. Every other number in this report is read against this one.",
    criterion="The lower bound of the 95% interval is at least {threshold:.0%}.",
    advice="Train longer, on more images, or with a larger architecture, then look at the classes that are confused.",
    command="audit run --preset standard",
)
def clean_accuracy(dossier: Dossier, role: str, criteria: CriteriaConfig) -> Conclusion | None:
    """The share of clean images classified right, against `clean_accuracy`."""
    correct = clean(dossier, role).values
    if not correct.size or not dossier.labelled:
        return None
    share = share_of(correct)
    return Conclusion(
        at_least(share, criteria.clean_accuracy),
        share,
        keys(dossier.entries("accuracy", role=role)),
        values_of(share, threshold=criteria.clean_accuracy),
    )
