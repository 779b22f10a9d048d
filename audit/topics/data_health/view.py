"""What the report shows of the data's health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.schema import AuditDocument
from audit.topics.data_health.facts import ISSUES, Issue
from audit.topics.data_health.section import DataIssueRow
from audit.topics.data_health.words import PARTS, PROPERTIES, SYMMETRIES


@dataclass(frozen=True)
class IssueGroup:
    """The issues of one kind.

    Attributes:
        issue: The kind.
        shown: Those with a picture.
        named: The others in the document.
    """

    issue: Issue
    shown: tuple[DataIssueRow, ...]
    named: tuple[DataIssueRow, ...]


@dataclass(frozen=True)
class DataHealthView:
    """What the template shows.

    Attributes:
        groups: The issues by kind, what matters most first.
        parts: By part, its name in the reader's language.
        properties: By property of files, its name.
        symmetries: By number, how a copy is turned.
    """

    groups: tuple[IssueGroup, ...]
    parts: dict[str, str]
    properties: dict[str, str]
    symmetries: tuple[str, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> DataHealthView:
    """The issues by kind, and the words for them.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = document.rows(DataIssueRow)
    groups = (
        IssueGroup(
            kind,
            tuple(row for row in rows if row.issue == kind and row.picture),
            tuple(row for row in rows if row.issue == kind and not row.picture),
        )
        for kind in ISSUES
    )
    return DataHealthView(
        tuple(group for group in groups if group.shown or group.named),
        {key: str(locale.note(said)) for key, said in PARTS.items()},
        {key: str(locale.note(said)) for key, said in PROPERTIES.items()},
        tuple(str(locale.note(said)) for said in SYMMETRIES),
    )
