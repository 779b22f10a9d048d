"""Which clauses of standards a report has evidence for; it claims no conformity."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.document.schema import AuditDocument


class Clause(BaseModel):
    """A clause of a standard, and what of a report bears on it.

    Attributes:
        standard: Name of the standard.
        source: Where it is published.
        clause: Number and title of the clause.
        sections: Names of the sections that do with all of their checks.
        checks: Names of single checks of other sections that do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: str
    source: str
    clause: str
    sections: tuple[str, ...]
    checks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClauseCoverage:
    """A clause against one report.

    Attributes:
        clause: The clause.
        present: The sections that the report has.
        missing: The sections that it lacks.
        checks: The checks that the report has findings of.
        unchecked: The checks that it has none of.
    """

    clause: Clause
    present: tuple[str, ...]
    missing: tuple[str, ...]
    checks: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def coverage(document: AuditDocument, *, task: str = "classification") -> tuple[ClauseCoverage, ...]:
    """The clauses of `templates/standards.toml` against a report, but those that nothing of its task bears on.

    Args:
        document: The document of the report.
        task: What the models do: "classification" or "detection".
    """
    present, asked = present_sections(document), {finding.check for finding in document.findings}
    elsewhere = {t.section for t in topics() if t.task != task} - {t.section for t in topics() if t.task == task}
    rows = []
    for clause in clauses():
        sections = [name for name in clause.sections if name not in elsewhere]
        checks = clause.checks if task == "classification" else ()
        if sections or checks:
            rows.append(
                ClauseCoverage(
                    clause,
                    tuple(name for name in sections if name in present),
                    tuple(name for name in sections if name not in present),
                    tuple(name for name in checks if name in asked),
                    tuple(name for name in checks if name not in asked),
                )
            )
    return tuple(rows)


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
    return tuple(Clause.model_validate(row) for row in _table()["clause"])


@cache
def unmapped() -> Mapping[str, str]:
    """The sections and checks that bear on no clause of `templates/standards.toml`, with the reason."""
    return MappingProxyType({name: str(why) for name, why in _table()["unmapped"].items()})


def _table() -> dict[str, Any]:
    return tomllib.loads((resource_dir("templates") / "standards.toml").read_text("utf-8"))
