"""What the self-test measures."""

from __future__ import annotations

from audit.core.evidence import Facts
from audit.core.note import Note
from audit.document.model import DocumentModel


class OracleRow(DocumentModel):
    """One problem with a known answer.

    Attributes:
        problem: Its name.
        method: The attribution method that solved it.
        error: How far the answer was off, relative; 1 - hits where the answer is a place.
        bound: How far it may be off.
        holds: Whether it is within the bound.
    """

    problem: Note
    method: str
    error: float
    bound: float
    holds: bool


class PackageRow(DocumentModel):
    """One problem solved by a package of the field too.

    Attributes:
        package: The package with its version.
        problem: The problem's name.
        method: Our method that solved it; empty where the package failed.
        call: What of the package was called.
        difference: Largest difference of the two answers, relative to the largest value; None where the package failed.
        ours: Our error from the known answer, relative; None where none is known.
        theirs: The package's.
        bound: The largest difference that `why` accounts for.
        holds: Whether the difference is within it.
        why: Why the answers differ, or how the package failed.
    """

    package: str
    problem: Note
    method: str
    call: str
    difference: float | None
    ours: float | None
    theirs: float | None
    bound: float
    holds: bool
    why: Note


class SelfTestFacts(Facts):
    """All problems.

    Attributes:
        oracles: One row a problem and method.
        holding: How many hold.
        packages: One row a problem that a package of the field solved too; none in evidence of earlier versions.
    """

    oracles: tuple[OracleRow, ...]
    holding: int = 0
    packages: tuple[PackageRow, ...] = ()
