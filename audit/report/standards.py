"""Evidence towards standards: which clauses a report bears on, and what it has for each. No claim of conformity."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache

from pydantic import BaseModel, ConfigDict

from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.document.schema import AuditDocument


class Clause(BaseModel):
    """A clause with its source, and the sections of a report that bear on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    standard: str
    source: str
    clause: str
    sections: tuple[str, ...]


@dataclass(frozen=True)
class ClauseCoverage:
    """A clause with the sections this report has for it, and those it lacks."""

    clause: Clause
    present: tuple[str, ...]
    missing: tuple[str, ...]


def coverage(document: AuditDocument) -> tuple[ClauseCoverage, ...]:
    """Every clause of `templates/standards.toml` against what the run measured."""
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
    """The sections with numbers in them; protocol and limitations are always there."""
    measured = {t.section for t in topics() if any(getattr(document, field, ()) for field in t.document)}
    return frozenset({name for name in measured if name} | {"protocol", "limits"})


@cache
def clauses() -> tuple[Clause, ...]:
    """The mapping that ships, in its order."""
    table = tomllib.loads((resource_dir("templates") / "standards.toml").read_text("utf-8"))
    return tuple(Clause.model_validate(row) for row in table["clause"])
