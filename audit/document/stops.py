"""Where studies that take images in steps ended, and what a run that was cut has left: rows of the document."""

from __future__ import annotations

from audit.config import StopRule
from audit.core.note import Note
from audit.document.model import Cost, DocumentModel
from audit.results.stopping import Ending


class StopRow(DocumentModel):
    """Where a study that takes images in steps ended.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        rule: "decides", "all", or how far the interval may reach either way.
        images: Images taken.
        planned: Images it would have taken at most.
        ended: "decided" once every check that reads it was, "precise", "all" images taken, or "unfinished" where the
            run was cut.
        sentence: The same in words; empty under the rule "all" once all are taken.
    """

    study: str
    role: str
    rule: StopRule
    images: int
    planned: int
    ended: Ending
    sentence: Note


class UnfinishedRow(DocumentModel):
    """What a run that was cut has not computed of one study of one model.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        cells: Number of cells.
        cost: What they cost at most; None where that is not known before.
        undecided: Checks that read the study and are inconclusive without it.
    """

    study: str
    role: str
    cells: int
    cost: Cost | None
    undecided: list[str]
