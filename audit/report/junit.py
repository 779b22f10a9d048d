"""Findings as JUnit XML, for the test panel of a pipeline."""

from __future__ import annotations

from xml.etree import ElementTree as xml

from audit.document.sanitise import visible
from audit.document.schema import AuditDocument, Gap
from audit.report.gate import Gate, GatedFinding, gate


def render_junit(document: AuditDocument, gated: Gate | None = None) -> str:
    """JUnit XML with one suite per model and one case per finding.

    Errors under the gate are failures; other findings are cases whose output tells the verdict. Planned measurements
    that failed are errors; findings that are switched off or were not run are skipped.

    Args:
        document: The document.
        gated: The findings under a policy; None for the built-in one.
    """
    gated = gated or gate(document.findings)
    root = xml.Element("testsuites", name="audit")
    for role in _roles(document):
        rows = [row for row in gated.rows if row.finding.role == role]
        gaps = [gap for gap in document.gaps if gap.role == role and gap.status == "failed"]
        _suite(root, role, rows, gaps)
    xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(root, encoding="unicode") + "\n"


def _roles(document: AuditDocument) -> list[str]:
    """The models, then whatever else has findings or failures: nothing is left out."""
    roles = [model.role for model in document.models] + [finding.role for finding in document.findings]
    return list(dict.fromkeys(roles + [gap.role for gap in document.gaps]))


def _suite(root: xml.Element, role: str, rows: list[GatedFinding], gaps: list[Gap]) -> None:
    suite = xml.SubElement(
        root,
        "testsuite",
        name=visible(role),
        tests=str(len(rows) + len(gaps)),
        failures=str(sum(row.outcome == "error" for row in rows)),
        errors=str(len(gaps)),
        skipped=str(sum(_skipped(row) for row in rows)),
    )
    for row in rows:
        _case(suite, row)
    for gap in gaps:
        name = f"{gap.study}: {gap.method}"
        case = xml.SubElement(suite, "testcase", classname=f"audit.{gap.study}", name=visible(name))
        xml.SubElement(case, "error", message=visible(gap.reason.text), type=gap.status)


def _case(suite: xml.Element, row: GatedFinding) -> None:
    finding = row.finding
    case = xml.SubElement(suite, "testcase", classname=f"audit.{finding.section}", name=case_name(row))
    if _skipped(row):
        xml.SubElement(case, "skipped").text = visible(finding.title)  # the schema gives it no attributes
    elif row.outcome == "error":
        failure = xml.SubElement(case, "failure", message=visible(finding.title), type=row.verdict)
        failure.text = details(row)
    else:
        xml.SubElement(case, "system-out").text = f"{row.verdict}: {visible(finding.title)}\n{details(row)}"


def case_name(row: GatedFinding) -> str:
    """The check, with the method or threat model it is about where it has several findings.

    Args:
        row: The finding under a policy.
    """
    subject = row.finding.values.get("identifier") or row.finding.values.get("threat") or ""
    return visible(f"{row.finding.check} {subject}".strip())


def details(row: GatedFinding) -> str:
    """Explanation, criterion, numbers, advice and command, one line each.

    Args:
        row: The finding under a policy.
    """
    finding = row.finding
    bounds = f"{finding.interval[0]:.4g} to {finding.interval[1]:.4g}" if finding.interval else "none"
    estimate = "none" if finding.estimate is None else f"{finding.estimate:.4g}"
    lines = [
        finding.explanation,
        str(finding.stopping),
        f"Criterion: {finding.criterion}",
        row.remark,
        f"Estimate {estimate}, 95% interval {bounds}, n = {finding.n}.",
        finding.advice,
        finding.command and f"Run: {finding.command}",
    ]
    return "\n".join(visible(line) for line in lines if line)


def _skipped(row: GatedFinding) -> bool:
    return row.outcome == "off" or row.verdict == "not_run"
