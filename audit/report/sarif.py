"""Findings as SARIF 2.1.0, with stable rule ids and locations in the policy file."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from audit.core.registry import methods
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument, Gap
from audit.report.gate import Gate, GatedFinding, gate
from audit.report.junit import case_name, details

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warn": "warning", "note": "none", "off": "none"}
_KINDS = {"fail": "fail", "warn": "fail", "inconclusive": "review", "not_run": "notApplicable"}


def render_sarif(document: AuditDocument, gated: Gate | None = None) -> str:
    """A SARIF log of one run, with one rule per check and one result per finding.

    Findings that are switched off are suppressed results. Results are located in the policy file of the gate, or in
    audit.json where there is none.

    Args:
        document: The document.
        gated: The findings under a policy; None for the built-in one.
    """
    gated = gated or gate(document.findings)
    rules = [_rule(name) for name in sorted({row.finding.check for row in gated.rows})]
    gaps = [gap for gap in document.gaps if gap.status == "failed"]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "audit", "version": document.tool["version"], "rules": rules}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(row, gated.source) for row in gated.rows],
        "invocations": [
            {
                "executionSuccessful": document.summary.complete,
                "toolExecutionNotifications": [_notification(gap) for gap in gaps],
            }
        ],
    }
    body = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def rule_id(check: str) -> str:
    """The stable rule id of a check.

    Args:
        check: Name of the check.
    """
    return f"audit/{check}"


def _rule(name: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": rule_id(name), "name": name.title().replace("-", "")}
    checks = {method.name: method for method in methods("check")}
    if name in checks:
        text = checks[name].summary or name
        rule |= {"shortDescription": {"text": text}, "properties": {"tags": [str(checks[name].facts["section"])]}}
    return rule


def _result(row: GatedFinding, source: str) -> dict[str, Any]:
    finding = row.finding
    level = _LEVELS[row.outcome]
    kind = _KINDS.get(row.verdict, "pass")
    result: dict[str, Any] = {
        "ruleId": rule_id(finding.check),
        "level": level if kind == "fail" else "none",
        "kind": kind,
        "message": {"text": f"{visible(finding.title)}\n{details(row)}"},
        "locations": [_location(source, row.line)],
        "partialFingerprints": {"auditFinding/v1": _fingerprint(row)},
        "properties": {"role": finding.role, "outcome": row.outcome, "n": finding.n, "estimate": finding.estimate},
    }
    if kind == "review" and row.outcome in ("warn", "error"):
        result |= {"kind": "fail", "level": level}
    if row.outcome == "off":
        result["suppressions"] = [{"kind": "external", "justification": "switched off by the policy"}]
    return result


def _location(source: str, line: int) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": source or "audit.json"}}
    return {"physicalLocation": physical | {"region": {"startLine": line}}}


def _fingerprint(row: GatedFinding) -> str:
    """The same for the same check of the same model, method or threat model, whatever its numbers."""
    return hashlib.sha256(f"{row.finding.role}\x1f{case_name(row)}".encode()).hexdigest()[:32]


def _notification(gap: Gap) -> dict[str, Any]:
    text = f"{gap.study} {gap.method} on the {gap.role} model failed: {gap.reason}"
    return {"level": "error", "message": {"text": visible(text)}}
