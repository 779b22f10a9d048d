"""What the report shows of attributions: a table of methods and the checks about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.explanations.section import ExplanationPart


@dataclass(frozen=True)
class MethodLine:
    """One method on one model.

    Attributes:
        method: Name of the attribution method.
        role: Role of the model.
        part: What it explains; None where it was not run.
        findings: By check of the table, the finding with its anchor; None where there is none.
    """

    method: str
    role: str
    part: ExplanationPart | None
    findings: tuple[tuple[str, Finding] | None, ...]


@dataclass(frozen=True)
class MethodTable:
    """Methods and the checks about them.

    Attributes:
        checks: The checks that have a finding about any method, in `ORDER`.
        lines: One per method and model; those without findings last.
    """

    checks: tuple[str, ...]
    lines: tuple[MethodLine, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> MethodTable:
    """The table of methods and checks (see `method_table`).

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    return method_table(document, findings)


def method_table(document: AuditDocument, anchored: Iterable[tuple[str, Finding]]) -> MethodTable:
    """The findings about methods as a table; empty where there are none.

    Args:
        document: The audit document.
        anchored: Each finding with its anchor on the page.
    """
    by_key = {_key(finding): (anchor, finding) for anchor, finding in anchored if "identifier" in finding.values}
    reported = {check for check, _, _ in by_key}
    checks = tuple(check for check in ORDER if check in reported) + tuple(sorted(reported - set(ORDER)))
    if not checks:
        return MethodTable((), ())
    rows = {(row.method, row.role): row for row in document.rows(ExplanationPart)}
    pairs = dict.fromkeys([*rows, *((method, role) for _, method, role in by_key)])
    lines = (
        MethodLine(method, role, rows.get((method, role)), tuple(by_key.get((c, method, role)) for c in checks))
        for method, role in pairs
    )
    return MethodTable(checks, tuple(sorted(lines, key=lambda line: not any(line.findings))))


def _key(finding: Finding) -> tuple[str, str, str]:
    return finding.check, str(finding.values["identifier"]), finding.role


ORDER = (
    "deletion-against-random",
    "better-than-blind",
    "randomised-weights",
    "sensitive-explanations",
    "seeded-explanations",
    "drift-at-constant-label",
    "steered-explanations",
    "localisation",
    "precise-explanations",
)
"""Order of the table's columns: the basic requirements of a map first."""
