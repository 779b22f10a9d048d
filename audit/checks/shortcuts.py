"""Does one place in the image decide a class on its own?"""

from __future__ import annotations

from audit.checks.conclusion import Conclusion
from audit.checks.readings import keys, measured
from audit.config import CriteriaConfig
from audit.dossier import Dossier
from audit.registry import check


@check(
    section="explanations",
    title_pass="No single place was found to decide a class for the {role} model",
    title_fail="One place decides a class for the {role} model: {classes}",
    explanation="Attributions over {n} images were searched for places that a class rests on ({tried} suspects); a "
    "suspect is confirmed by exchanging the place between images and seeing the predictions follow.",
    criterion="No suspect is confirmed.",
    advice="Look at the training images of these classes at this place: a mark, border or watermark that goes with the "
    "label must be removed or spread over all classes.",
)
def shortcuts(dossier: Dossier, role: str, criteria: CriteriaConfig) -> Conclusion | None:
    """Places that the shortcut search convicted; a search that finds none proves no absence."""
    entries = measured(dossier.entries("shortcuts", role=role))
    if not entries:
        return None
    found = [row for entry in entries for row in entry.evidence.facts["shortcuts"]]
    values: dict[str, str | float] = {
        "n": sum(len(entry.task.examples) for entry in entries),
        "tried": sum(int(entry.evidence.facts["tried"]) for entry in entries),
        "classes": ", ".join(dict.fromkeys(str(row["class"]) for row in found)),
    }
    return Conclusion("fail" if found else "pass", None, keys(entries), values)
