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


class SelfTestFacts(Facts):
    """All problems.

    Attributes:
        oracles: One row a problem and method.
        holding: How many hold.
    """

    oracles: tuple[OracleRow, ...]
    holding: int = 0
