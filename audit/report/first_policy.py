"""A first policy, written from the numbers of a run: what holds in it must not get worse."""

from __future__ import annotations

import math

from audit.core.evidence import Finding, Verdict
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument
from audit.results.run_checks import SEVERITY

_HEAD = """\
# What stops the pipeline. `audit check RUN --policy policy.toml` reads a finished run; nothing is run again.
#
# level         what a failing finding does: off, warn or error
# inconclusive  what a finding that cannot be told does: off, warn or error
# minimum       the least the lower bound of the 95% interval may be
# maximum       the most the upper bound may be
# roles         the models it speaks of, all when left out: ["standard"], ["hardened"]

[default]
level = "error"
inconclusive = "warn"
"""
_HIGHER_IS_BETTER = frozenset({"clean-accuracy", "robust-accuracy"})
_LOWER_IS_BETTER = frozenset({"calibration", "corruption"})


def first_policy(document: AuditDocument) -> str:
    """A policy as commented TOML: one rule per check.

    Each threshold is the bound that the weakest model of the run reaches. A check that fails in this run gets the level
    "warn", so that the gate passes on the run it was written from.

    Args:
        document: The document of the run.
    """
    checks = dict.fromkeys(finding.check for finding in document.findings)
    return "\n".join([_HEAD, *(_rule(name, [f for f in document.findings if f.check == name]) for name in checks)])


def _rule(name: str, findings: list[Finding]) -> str:
    worst: Verdict = min((f.verdict for f in findings), key=SEVERITY.index)
    lines = [f"# {f.role}: {_today(f)}" for f in findings]
    lines += [f"[checks.{name}]", f'level = "{"warn" if worst == "fail" else "error"}"', *_threshold(name, findings)]
    return "\n".join(lines) + "\n"


def _today(finding: Finding) -> str:
    bounds = f", 95% interval {finding.interval[0]:.3f} to {finding.interval[1]:.3f}" if finding.interval else ""
    subject = visible(str(finding.values.get("identifier", "")))
    return " ".join(f"{subject} {finding.verdict}{bounds}, n = {finding.n}".split())


def _threshold(name: str, findings: list[Finding]) -> list[str]:
    """The threshold, rounded to the lenient side so that the run it was written from passes."""
    bounds = [finding.interval for finding in findings if finding.interval]
    if bounds and name in _HIGHER_IS_BETTER:
        return [f"minimum = {math.floor(100 * min(low for low, _ in bounds)) / 100}"]
    if bounds and name in _LOWER_IS_BETTER:
        return [f"maximum = {math.ceil(100 * max(high for _, high in bounds)) / 100}"]
    return []
