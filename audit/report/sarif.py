"""Findings as SARIF 2.1.0, for GitHub code scanning and whatever else reads that format.

What GitHub reads of a log, and its limits: docs.github.com, "SARIF support for code scanning".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from audit.core.registry import methods
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument, Gap
from audit.report.gate import Gate, GatedFinding, gate
from audit.report.junit import case_name, details
from audit.report.markdown import escaped
from audit.report.policy import line_of

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warn": "warning", "off": "note"}
_SEVERITIES = {"error": "error", "warning": "warning", "note": "recommendation"}
_LONGEST_NAME, _LONGEST_DESCRIPTION = 255, 1024  # characters that GitHub shows
_PLACEHOLDER = re.compile(r"\{(\w+)[^}]*\}")


def render_sarif(
    document: AuditDocument, gated: Gate | None = None, *, passes: bool = False, category: str = "audit"
) -> str:
    """A SARIF log of one run: a rule for each check, and a result for each problem.

    GitHub shows every result as an alert, also those of kind "pass" and those that are suppressed. So a problem is what
    the gate calls an error or a warning; what the policy allows or switches off is no result. Each has one location,
    the line of the policy that judges it, or audit.json where there is no policy.

    Args:
        document: The document.
        gated: The findings under a policy; None for the built-in one.
        passes: Whether findings that pass are results too, of kind "pass" or "informational".
        category: What tells this analysis from others of the same commit, such as the name of the model.
    """
    gated = gated or gate(document.findings)
    names = sorted({row.finding.check for row in gated.rows} | set(gated.unmeasured))
    shown = [row for row in gated.rows if row.outcome in ("error", "warn") or (passes and row.outcome == "note")]
    results = [_result(row, gated) for row in shown] + [_unmeasured(name, gated) for name in gated.unmeasured]
    gaps = [gap for gap in document.gaps if gap.status == "failed"]
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "audit", "version": document.tool["version"], "rules": _rules(names, gated)}},
        "automationDetails": {"id": f"{visible(category).strip('/')}/{_run_id(document)}"},
        "columnKind": "unicodeCodePoints",
        "results": [result | {"ruleIndex": names.index(result["ruleId"].split("/")[-1])} for result in results],
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


def _run_id(document: AuditDocument) -> str:
    """Which run of its category it is: the model's fingerprint and the seed, so that the same run has the same id."""
    identity = document.models[0].identity[:12] if document.models else "none"
    return f"{visible(identity)}-{document.protocol.seed}"


def _rules(names: Sequence[str], gated: Gate) -> list[dict[str, Any]]:
    checks = {method.name: method for method in methods("check")}
    rules = []
    for name in names:
        facts = checks[name].facts if name in checks else {}
        summary = (checks[name].summary if name in checks else "") or name
        explanation = _template(facts.get("explanation", ""), visible) or summary
        level = _LEVELS[gated.policy.rule(name).level]
        properties: dict[str, Any] = {"precision": "high", "problem.severity": _SEVERITIES[level]}
        if "section" in facts:
            properties["tags"] = ["model", str(facts["section"])]
        rules.append(
            {
                "id": rule_id(name),
                "name": name.title().replace("-", "")[:_LONGEST_NAME],
                "shortDescription": {"text": _cut(summary.replace("`", ""))},
                "fullDescription": {"text": _cut(explanation)},
                "defaultConfiguration": {"level": level},
                "help": {"text": _help(facts, summary, markdown=False), "markdown": _help(facts, summary)},
                "properties": properties,
            }
        )
    return rules


def _help(facts: Any, summary: str, *, markdown: bool = True) -> str:
    """What a check asks, its criterion and what to do; what only a finding knows stands as the name of the value."""
    write = escaped if markdown else visible
    strong = "**{}**" if markdown else "{}"
    parts = [_template(facts.get("explanation", ""), write, markdown) or write(summary)]
    for title, key in (("Criterion", "criterion"), ("What to do", "advice")):
        if text := _template(facts.get(key, ""), write, markdown):
            parts.append(f"{strong.format(title + ':')} {text}")
    if command := facts.get("command"):
        parts.append(f"```sh\n{command}\n```" if markdown else f"Run: {command}")
    return "\n\n".join(parts)


def _template(text: str, write: Callable[[str], str], markdown: bool = False) -> str:
    """A check's sentence with the names of its values in place of the values."""
    literal = _PLACEHOLDER.split(text)
    named = "*{}*" if markdown else "<{}>"
    return "".join(
        named.format(part.replace("_", " ")) if number % 2 else write(part) for number, part in enumerate(literal)
    )


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_DESCRIPTION else text[: _LONGEST_DESCRIPTION - 1] + "…"


def _result(row: GatedFinding, gated: Gate) -> dict[str, Any]:
    finding = row.finding
    problem = row.outcome in ("error", "warn")
    kind = "fail" if problem else "informational" if row.verdict == "informative" else "pass"
    return {
        "ruleId": rule_id(finding.check),
        "level": _LEVELS[row.outcome] if problem else "none",
        "kind": kind,
        "message": {"text": _plain_message(f"{finding.title}.\n{details(row)}")},
        "locations": [_location(gated, row.line)],
        "partialFingerprints": _fingerprint(finding.role, case_name(row)),
        "properties": {
            "role": finding.role,
            "verdict": row.verdict,
            "n": finding.n,
            "estimate": finding.estimate,
            "interval": finding.interval,
        },
    }


def _unmeasured(name: str, gated: Gate) -> dict[str, Any]:
    return {
        "ruleId": rule_id(name),
        "level": "warning",
        "kind": "fail",
        "message": {"text": f"The policy asks for {name}, and nothing was measured."},
        "locations": [_location(gated, line_of(gated.text, name))],
        "partialFingerprints": _fingerprint("unmeasured", name),
        "properties": {"verdict": "not_run"},
    }


def _plain_message(text: str) -> str:
    """A text in which no bracket begins a link and no brace a placeholder (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    return re.sub(r"([\[\]\\])", r"\\\1", visible(text.replace("\n", "\0")).replace("<U+0000>", "\n"))


def _location(gated: Gate, line: int) -> dict[str, Any]:
    lines = gated.text.splitlines()
    width = len(lines[line - 1]) if line <= len(lines) else 0
    region = {"startLine": line, "startColumn": 1, "endLine": line, "endColumn": width + 1}
    uri = quote(gated.source) if gated.source else "audit.json"
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}


def _fingerprint(role: str, case: str) -> dict[str, str]:
    """The same for the same check of the same model, method or threat model, whatever its numbers and its line.

    GitHub reads `primaryLocationLineHash` alone. Its form there is a hash of 64 bits and a count of repetitions.
    """
    digest = hashlib.sha256(f"{role}\x1f{case}".encode()).hexdigest()
    return {"primaryLocationLineHash": f"{digest[:16]}:1"}


def _notification(gap: Gap) -> dict[str, Any]:
    text = f"{gap.study} {gap.method} on the {gap.role} model failed: {gap.reason}"
    return {"level": "error", "message": {"text": _plain_message(text)}}
