"""Applying a policy to findings: what stops a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding, Verdict
from audit.core.statistics import Interval
from audit.report.policy import Policy, PolicyOutcome, line_of


@dataclass(frozen=True)
class GatedFinding:
    """A finding under a policy.

    Attributes:
        finding: The finding.
        verdict: Its verdict under the thresholds of the policy.
        outcome: What it does to the pipeline.
        line: Line of the policy file that says so, from 1.
    """

    finding: Finding
    verdict: Verdict
    outcome: PolicyOutcome
    line: int


@dataclass(frozen=True)
class Gate:
    """Every finding under a policy.

    Attributes:
        rows: The findings, in the order of the document.
        source: Name of the policy file; empty for the built-in policy.
    """

    rows: tuple[GatedFinding, ...]
    source: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is an error."""
        return all(row.outcome != "error" for row in self.rows)


def gate(findings: Sequence[Finding], policy: Policy | None = None, *, text: str = "", source: str = "") -> Gate:
    """Apply a policy to findings.

    Args:
        findings: The findings of a run.
        policy: The policy; None for the built-in one: failures are errors, and inconclusive findings warnings.
        text: Text of the policy file, for line numbers.
        source: Name of the policy file.
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
