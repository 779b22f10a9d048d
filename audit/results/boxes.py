"""What a detector found, over all cells of a study."""

from __future__ import annotations

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.evidence import Array
from audit.results.run_results import RunResults


def boxes_of(
    results: RunResults, study: str, role: str, *, objects: str = "objects", found: str = "found"
) -> tuple[PackedObjects, PackedDetections] | None:
    """The objects of all measured images of a study, and what was found in them.

    Args:
        results: The run.
        study: Name of the study, whose cells hold arrays of `PackedObjects` and `PackedDetections`.
        role: Role of the model.
        objects: What the names of the objects' arrays begin with.
        found: What the names of the detections' arrays begin with.

    Returns:
        None where nothing was measured.
    """
    if results.array(study, f"{found}_counts", role=role) is None:
        return None

    def arrays(kind: type[PackedObjects] | type[PackedDetections], prefix: str) -> dict[str, Array]:
        names = [f"{prefix}_{name}" for name in kind.__dataclass_fields__]
        joined = {name: results.array(study, name, role=role) for name in names}
        return {name: values for name, values in joined.items() if values is not None}

    return (
        PackedObjects.of(arrays(PackedObjects, objects), objects),
        PackedDetections.of(arrays(PackedDetections, found), found),
    )
