"""Objects hidden and moved by class: rows of the document."""

from __future__ import annotations

from audit.document.model import DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.run_results import RunResults


class BackgroundRow(DocumentModel):
    """One class of one detector.

    Attributes:
        role: The detector's role.
        name: Name of the class.
        objects: Its objects that are found in place.
        hidden: Share of them whose class is still found when they are hidden.
        lost: Share of them that are lost in other surroundings.
        p_value: The smaller of the two probabilities, adjusted for all classes and both probes.
    """

    role: str
    name: str
    objects: int
    hidden: Proportion
    lost: Proportion
    p_value: float


def build(results: RunResults, context: SectionContext) -> Rows:
    """Each class of each detector, the most suspicious first.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    from audit.topics.detection_background import DetectionBackgroundConfig
    from audit.topics.detection_background.measured import backgrounds

    table = context.config.table(DetectionBackgroundConfig)
    rows: list[BackgroundRow] = []
    for role in context.roles:
        found = backgrounds(results, role, table.found_hidden, table.lost_moved)
        rows += [
            BackgroundRow(
                role=role,
                name=context.classes[row.label],
                objects=row.objects,
                hidden=proportion(row.hidden),
                lost=proportion(row.lost),
                p_value=min(row.hidden_p, row.lost_p),
            )
            for row in sorted(found, key=lambda row: min(row.hidden_p, row.lost_p))
        ]
    return {"detection_background": rows}
