"""Findings under a policy: what stops a pipeline, without running anything again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding, Verdict
from audit.core.statistics import Interval
from audit.report.policy import Policy, PolicyOutcome, line_of


@dataclass(frozen=True)
class GatedFinding:
    """A finding under a policy: its verdict there, what follows, and the line of the policy that says so."""

    finding: Finding
    verdict: Verdict
    outcome: PolicyOutcome
    line: int


@dataclass(frozen=True)
class Gate:
    """Every finding under a policy; `source` is the policy file's name, empty for the built-in one."""

    rows: tuple[GatedFinding, ...]
    source: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is an error."""
        return all(row.outcome != "error" for row in self.rows)


def gate(findings: Sequence[Finding], policy: Policy | None = None, *, text: str = "", source: str = "") -> Gate:
    """`findings` under `policy`; by default failures are errors, and what cannot be told is a warning.

    `text` is the policy file's, to point at its lines; `source` its name.
    """
    policy = policy or Policy()
    return Gate(tuple(_apply(finding, policy, text) for finding in findings), source)


def _apply(finding: Finding, policy: Policy, text: str) -> GatedFinding:
    rule = policy.rule(finding.check)
    verdict = rule.verdict(finding.verdict, _interval(finding), weak_evidence=bool(finding.values.get("doubts")))
    return GatedFinding(finding, verdict, rule.outcome(verdict, finding.role), line_of(text, finding.check))


def _interval(finding: Finding) -> Interval | None:
    if finding.interval is None or finding.estimate is None:
        return None
    return Interval(finding.estimate, finding.interval[0], finding.interval[1], finding.n, "")
