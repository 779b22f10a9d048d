"""Whether the package solves problems with known answers."""

from __future__ import annotations

from functools import reduce

from audit.config import RunConfig
from audit.core.evidence import CheckValue
from audit.core.note import Note, note
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults
from audit.topics.self_test.facts import SelfTestFacts


@check(
    section="protocol",
    title_pass="The tool solved all {total} problems with known answers on this device",
    title_fail="The tool missed {missed} of {total} problems with known answers on this device",
    explanation="Before it judges a model, the tool re-solves problems whose exact answers are known: {problems}.",
    criterion="Every error must be within its bound.",
    advice="Do not trust attributions from this device or these library versions until every problem holds; see which "
    "ones do not in the protocol section.",
    command="audit doctor",
)
def self_test(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The errors of the self-test against their bounds.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = only_measured(results.entries("self-test", role=role))
    rows = [row for entry in entries for row in entry.evidence.facts_as(SelfTestFacts).oracles]
    if not rows:
        return None
    missed = sum(not row.holds for row in rows)
    problems = reduce(_listed, dict.fromkeys(row.problem for row in rows))
    values: dict[str, CheckValue] = {
        "total": len(rows),
        "missed": missed,
        "problems": problems,
    }
    return CheckResult("fail" if missed else "pass", None, cell_keys(entries), values)


def _listed(problems: Note, another: Note) -> Note:
    return note("listed", "{problems}, {another}", problems=problems, another=another)
