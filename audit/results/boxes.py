"""What a detector found, over all cells of a study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.evidence import Array
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult


def boxes_of(results: RunResults, study: str, role: str) -> tuple[PackedObjects, PackedDetections] | None:
    """The objects of all measured images of a study, and what was found in them.

    Args:
        results: The run.
        study: Name of the study, whose cells are as `boxes_in` reads them.
        role: Role of the model.

    Returns:
        None where nothing was measured.
    """
    return boxes_in(results.entries(study, role=role))


def boxes_in(
    entries: Sequence[TaskResult], *, objects: str = "objects", found: str = "found"
) -> tuple[PackedObjects, PackedDetections] | None:
    """The objects of the images of some cells, and what was found in them.

    Args:
        entries: Cells of one study, model and condition, in the order of their examples.
        objects: What the names of the objects' arrays begin with.
        found: What the names of the detections' arrays begin with.

    Returns:
        None where nothing was measured.
    """
    measured = only_measured(entries)
    if not measured:
        return None

    def joined(kind: type[PackedObjects] | type[PackedDetections], prefix: str) -> dict[str, Array]:
        names = [f"{prefix}_{name}" for name in kind.__dataclass_fields__]
        return {name: np.concatenate([entry.evidence.arrays[name] for entry in measured]) for name in names}

    return (
        PackedObjects.of(joined(PackedObjects, objects), objects),
        PackedDetections.of(joined(PackedDetections, found), found),
    )
