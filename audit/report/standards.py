"""Which clauses of standards a report has evidence for; it claims no conformity."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict

from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.document.schema import AuditDocument


class Clause(BaseModel):
    """A clause of a standard, and the sections of a report that bear on it.

    Attributes:
        standard: Name of the standard.
        source: Where it is published.
        clause: Number and title of the clause.
        sections: Names of the sections.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: str
    source: str
    clause: str
    sections: tuple[str, ...]


@dataclass(frozen=True)
class ClauseCoverage:
    """A clause against one report.

    Attributes:
        clause: The clause.
        present: The sections that the report has.
        missing: The sections that it lacks.
    """

    clause: Clause
    present: tuple[str, ...]
    missing: tuple[str, ...]


def coverage(document: AuditDocument) -> tuple[ClauseCoverage, ...]:
    """Every clause of `templates/standards.toml` against a report.

    Args:
        document: The document of the report.
    """
    present = present_sections(document)
    return tuple(
        ClauseCoverage(
            clause,
            tuple(name for name in clause.sections if name in present),
            tuple(name for name in clause.sections if name not in present),
        )
        for clause in clauses()
    )


def present_sections(document: AuditDocument) -> frozenset[str]:
    """The sections with numbers in them; protocol and limitations are always among them.

    Args:
        document: The document of the report.
    """
    measured = {t.section for t in topics() if any(getattr(document, field, ()) for field in t.document)}
    return frozenset({name for name in measured if name} | {"protocol", "limits"})


@cache
def clauses() -> tuple[Clause, ...]:
    """The clauses of `templates/standards.toml`, in its order."""
    table = tomllib.loads((resource_dir("templates") / "standards.toml").read_text("utf-8"))
    return tuple(Clause.model_validate(row) for row in table["clause"])
