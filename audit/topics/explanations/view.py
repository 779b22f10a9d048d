"""What the report shows of attributions: every method beside every check that judged it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.explanations.section import ExplanationPart


@dataclass(frozen=True)
class MethodLine:
    """One method on one model: its findings by anchor, in the order of the table's checks, None where none is."""

    method: str
    role: str
    part: ExplanationPart | None
    findings: tuple[tuple[str, Finding] | None, ...]


@dataclass(frozen=True)
class MethodTable:
    """`checks` that judged any method, in `ORDER`, and a line a method and model; methods without verdicts last."""

    checks: tuple[str, ...]
    lines: tuple[MethodLine, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> MethodTable:
    """Every method beside every check that judged it (see `method_table`).

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    return method_table(document, findings)


def method_table(document: AuditDocument, anchored: Iterable[tuple[str, Finding]]) -> MethodTable:
    """The findings about methods, each with its anchor on the page, pivoted. Empty where no check judged any."""
    by_key = {_key(finding): (anchor, finding) for anchor, finding in anchored if "identifier" in finding.values}
    judged = {check for check, _, _ in by_key}
    checks = tuple(check for check in ORDER if check in judged) + tuple(sorted(judged - set(ORDER)))
    if not checks:
        return MethodTable((), ())
    parts = {(part.method, part.role): part for part in document.rows(ExplanationPart)}
    pairs = dict.fromkeys([*parts, *((method, role) for _, method, role in by_key)])
    lines = (
        MethodLine(method, role, parts.get((method, role)), tuple(by_key.get((c, method, role)) for c in checks))
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
)
"""From what a map must do to be worth looking at, to what an adversary can do to it."""
