"""Does the tool itself give the right answer where the answer is known?"""

from __future__ import annotations

from audit.checks.conclusion import Conclusion
from audit.checks.readings import keys, measured
from audit.config import CriteriaConfig
from audit.dossier import Dossier
from audit.registry import check


@check(
    section="protocol",
    title_pass="The tool solved all {total} problems with known answers on this device",
    title_fail="The tool missed {missed} of {total} problems with known answers on this device",
    explanation="Before it judges a model, the tool re-solves problems whose exact answers are known: {problems}.",
    criterion="Every error is within its bound.",
    advice="Do not trust attributions from this device or these library versions until every problem holds; see which "
    "ones do not in the protocol section.",
    command="audit doctor",
)
def calibration_of_the_tool(dossier: Dossier, role: str, criteria: CriteriaConfig) -> Conclusion | None:
    """The exact oracles, re-solved in this run."""
    entries = measured(dossier.entries("calibration-of-the-tool", role=role))
    rows = [row for entry in entries for row in entry.evidence.facts["oracles"]]
    if not rows:
        return None
    missed = sum(not row["holds"] for row in rows)
    problems = ", ".join(dict.fromkeys(str(row["problem"]) for row in rows))
    values: dict[str, str | float] = {"total": len(rows), "missed": missed, "problems": problems}
    return Conclusion("fail" if missed else "pass", None, keys(entries), values)
