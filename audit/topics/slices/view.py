"""What the report shows of weak slices and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audit.core.evidence import Finding
from audit.document.locale import Locale
from audit.document.model import Proportion
from audit.document.schema import AuditDocument
from audit.topics.slices.section import GroupsRow, SliceRow


@dataclass(frozen=True)
class GroupTable:
    """The groups of one column, in every model.

    Attributes:
        column: "label", or a column of the data.
        series: By model and outcome, the row of the document.
        lines: Each group with its share in each of the series, None where it has no images there; the lowest in the
            first of them leads.
    """

    column: str
    series: tuple[GroupsRow, ...]
    lines: tuple[tuple[str, tuple[Proportion | None, ...]], ...]


@dataclass(frozen=True)
class SlicesView:
    """What the template shows.

    Attributes:
        weak: The kinds that are weaker, the smallest p-value first.
        others: Those that were tested and are not shown to be.
        tables: The groups of each column; those of the data before the classes.
    """

    weak: tuple[SliceRow, ...]
    others: tuple[SliceRow, ...]
    tables: tuple[GroupTable, ...]


def view(document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]]) -> SlicesView:
    """The slices in order, and the groups as tables.

    Args:
        document: The audit document.
        locale: The reader's language.
        findings: Each finding with its anchor on the page.
    """
    rows = sorted(document.rows(SliceRow), key=lambda row: row.p_value)
    groups = document.rows(GroupsRow)
    columns = dict.fromkeys(row.column for row in groups)
    tables = [_table(column, [row for row in groups if row.column == column]) for column in columns]
    return SlicesView(
        tuple(row for row in rows if row.weak),
        tuple(row for row in rows if not row.weak),
        tuple(sorted(tables, key=lambda table: table.column == "label")),
    )


def _table(column: str, series: Sequence[GroupsRow]) -> GroupTable:
    shares = [{group.name: group.share for group in row.by_group} for row in series]
    names = dict.fromkeys(name for by_name in shares for name in by_name)
    lines = [(name, tuple(by_name.get(name) for by_name in shares)) for name in names]
    return GroupTable(column, tuple(series), tuple(sorted(lines, key=_first_share)))


def _first_share(line: tuple[str, tuple[Proportion | None, ...]]) -> float:
    first = next((share for share in line[1] if share is not None), None)
    return 1.0 if first is None else first.estimate
