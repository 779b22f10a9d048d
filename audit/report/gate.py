"""Applying a policy to findings: what stops a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from audit.core.errors import UsageError, unknown_name
from audit.core.evidence import Finding, Verdict
from audit.core.statistics import Interval
from audit.report.policy import Policy, PolicyOutcome, line_of
from audit.report.summary import PASSING
from audit.results.stopping import UNFINISHED

ROLES = ("standard", "hardened", "compressed")
"""The roles a model of a run may have."""


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

    @property
    def allowed(self) -> bool:
        """Whether the policy lets pass what the run itself does not."""
        return self.outcome == "note" and self.finding.verdict not in PASSING

    @property
    def remark(self) -> str:
        """A sentence where the policy judges otherwise than the run, whose title stands beside it; else empty."""
        if self.verdict == self.finding.verdict:
            return ""
        return f"Under the run's own criterion: {self.finding.verdict}. Under the policy's: {self.verdict}."


@dataclass(frozen=True)
class Gate:
    """Every finding under a policy.

    Attributes:
        rows: The findings, in the order of the document.
        policy: The policy.
        source: The policy file, relative to the current folder where it is in it; empty for the built-in policy.
        text: Its text.
        unmeasured: Checks whose own rule makes a failure an error, of which the document has no finding that the rule
            speaks of.
    """

    rows: tuple[GatedFinding, ...]
    policy: Policy = field(default_factory=Policy)
    source: str = ""
    text: str = ""
    unmeasured: tuple[str, ...] = ()

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
        source: The policy file as reports name it.

    Raises:
        UsageError: The policy names a role that no model of a run has.
    """
    policy = policy or Policy()
    _require_roles(policy, findings, source)
    rows = tuple(_apply(finding, policy, text) for finding in findings)
    judged = {row.finding.check for row in rows if row.outcome != "off"}
    strict = (
        name for name, rule in policy.checks.items() if rule.level == "error" and "level" in rule.model_fields_set
    )
    return Gate(rows, policy, source, text, tuple(name for name in strict if name not in judged))


def _require_roles(policy: Policy, findings: Sequence[Finding], source: str) -> None:
    """A role that no run has would switch a rule off unseen."""
    known = {*ROLES, *(finding.role for finding in findings)}
    for role in (role for rule in (policy.default, *policy.checks.values()) for role in rule.roles):
        if role not in known:
            raise UsageError(f"{source}: {unknown_name('role', role, sorted(known))}")


def _apply(finding: Finding, policy: Policy, text: str) -> GatedFinding:
    rule = policy.rule(finding.check)
    weak = bool(finding.values.get("doubts")) or finding.stopping.key == UNFINISHED
    verdict = rule.verdict(finding.verdict, _interval(finding), weak_evidence=weak)
    return GatedFinding(finding, verdict, rule.outcome(verdict, finding.role), line_of(text, finding.check))


def _interval(finding: Finding) -> Interval | None:
    if finding.interval is None or finding.estimate is None:
        return None
    return Interval(finding.estimate, finding.interval[0], finding.interval[1], finding.n, "")
